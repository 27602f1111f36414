"""Paddle Lite on the ARM cores of a phone, 32-bit code: engine `paddle-lite-armv7`."""

from quantfleet_worker.engines.paddle_lite import PaddleLite

ENGINE = PaddleLite("paddle-lite-armv7")
