"""An adapter in a trainer's file: which of PEFT's methods, on which layers, with which options."""
