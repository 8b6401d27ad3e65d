"""Every dialect of training files that is read."""

from app.imports.dialects.autotrain import AUTOTRAIN
from app.imports.dialects.axolotl import AXOLOTL
from app.imports.dialects.litgpt import LITGPT
from app.imports.dialects.llama_factory import LLAMA_FACTORY
from app.imports.dialects.llama_factory_v1 import LLAMA_FACTORY_V1
from app.imports.dialects.ms_swift import MS_SWIFT
from app.imports.dialects.oumi import OUMI
from app.imports.dialects.own_documents import MODEL_CONFIG, REQUEST
from app.imports.dialects.partial_files import ADAPTER, CHAPTER
from app.imports.dialects.torchtune import TORCHTUNE
from app.imports.dialects.trl import TRL
from app.imports.dialects.unsloth_studio import UNSLOTH_STUDIO
from app.imports.rules import Trainer

# Of dialects that explain a file equally well, the earlier is meant; a Fitproof request has the commonest keys.
TRAINERS: tuple[Trainer, ...] = (
    MODEL_CONFIG, AXOLOTL, LLAMA_FACTORY, TRL, MS_SWIFT, LLAMA_FACTORY_V1, UNSLOTH_STUDIO, AUTOTRAIN, OUMI, TORCHTUNE,
    LITGPT, CHAPTER, ADAPTER, REQUEST,
)  # fmt: skip
