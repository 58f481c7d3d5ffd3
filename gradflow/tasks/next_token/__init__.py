"""A causal transformer that learns to predict the next token of correlated sequences."""

from .data import NAMES as NAMES
from .data import Data as Data
from .data import empirical as empirical
from .model import CausalTransformer as CausalTransformer
from .model import sample_loss as sample_loss
from .task import NextToken as NextToken
