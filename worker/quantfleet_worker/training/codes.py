"""How many codes fake quantization gives a tensor that the engine stores as u8. Not for which tensors those are."""

U8_LEVELS = 255
U8_BITS = 9
"""The width for which Paddle's fake quantization, symmetric whatever the tensor, has U8_LEVELS codes above zero."""
