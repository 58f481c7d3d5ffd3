"""The co-occurrence problem beyond one layer and one head: what the paper names as future work."""

from .model import Attention as Attention
from .model import DeepTransformer as DeepTransformer
from .task import Deep as Deep
