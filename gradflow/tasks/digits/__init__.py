"""Handwritten digits: logistic regression, a small network, convolutions and attention."""

from .data import Data as Data
from .data import Images as Images
from .models import Attention as Attention
from .models import Convolution as Convolution
from .observables import sample_loss as sample_loss
from .task import Digits as Digits
