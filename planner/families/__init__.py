"""What each model family is made of: one description for the census and for the timeline."""

from planner.families.census import census_of
from planner.families.parts import Decoder
from planner.families.registry import builds_text_alone, decoder_of, known_types

__all__ = ["Decoder", "builds_text_alone", "census_of", "decoder_of", "known_types"]
