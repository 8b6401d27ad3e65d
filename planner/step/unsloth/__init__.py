"""The step of Unsloth's own layers: functions with hand-written gradients, layers whose inputs wait on the host."""
