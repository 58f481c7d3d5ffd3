"""A one-layer transformer that learns to recognise that two words occur together.

Yang, Kailkhura, Wang & Liang, "Training Dynamics of Transformers to Recognize Word Co-occurrence
via Gradient Flow Analysis", NeurIPS 2024, arXiv 2410.09605; numbers in this package are that
paper's.
"""

from .data import CLASSES as CLASSES
from .data import WORDS as WORDS
from .data import Data as Data
from .data import Samples as Samples
from .model import Transformer as Transformer
from .model import margins as margins
from .model import sample_loss as sample_loss
from .observables import EVENTS as EVENTS
from .observables import OBSERVABLES as OBSERVABLES
from .sentences import Sentences as Sentences
from .task import Cooccurrence as Cooccurrence
