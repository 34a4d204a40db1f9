"""Named backbones, and models of the user's own.

To add a backbone, enter its builder and its defaults in :data:`BACKBONES`.
Importing this package imports neither torch nor PyG, for the help of the command line.
"""

from fastglt.models.backbones import BACKBONES as BACKBONES
from fastglt.models.backbones import Backbone as Backbone
from fastglt.models.backbones import build_model as build_model
from fastglt.models.backbones import resolve_config as resolve_config
from fastglt.models.config import BackboneConfig as BackboneConfig
from fastglt.models.own import absolute_spec as absolute_spec
from fastglt.models.own import is_own_model as is_own_model
from fastglt.models.own import load_model as load_model
from fastglt.models.own import model_file as model_file
