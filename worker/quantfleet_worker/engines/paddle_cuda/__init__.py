"""The engines `paddle-gpu` and `paddle-tensorrt`, in parts: what is pure takes Paddle's answers as arguments."""
