"""Trains the tokenizer and the text classifier and writes model/. Not needed to run the example.

    python examples/text/train.py                    (some minutes on two CPU cores)

What the evaluation says is never seen here. The seed is fixed, but a CPU of another kind trains slightly other weights.
"""

from itertools import islice
from pathlib import Path

import numpy as np
import paddle
from paddle import nn
from prepare import TOPICS, Text, texts
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from quantfleet_domain.calibration.graph import InputTensor
from quantfleet_worker.preprocessing.configuration import parse

MODEL = Path(__file__).parent / "model"
TOKENS, LENGTH = 512, 48
WIDTH, HEADS, LAYERS = 64, 4, 2
STEPS, BATCH, LEARNING_RATE = 900, 48, 2e-3
FOR_THE_TOKENIZER = 4000
SEED = 20
INPUTS = tuple(InputTensor(name, (1, LENGTH), "int64") for name in ("input_ids", "attention_mask"))


class Block(nn.Layer):
    """Self-attention and two products with a GELU between, each behind a layer norm (Xiong et al., 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_norm, self.norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.output = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.widen, self.narrow = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, states: paddle.Tensor, hidden: paddle.Tensor) -> paddle.Tensor:
        """Return the states [n, LENGTH, WIDTH]; `hidden`, [n, 1, 1, LENGTH], is far below zero where no token is."""
        normed = self.attention_norm(states)
        query, key, value = (self._heads(layer(normed)) for layer in (self.query, self.key, self.value))
        scores = paddle.matmul(query, key, transpose_y=True) * (WIDTH // HEADS) ** -0.5
        mixed = paddle.matmul(nn.functional.softmax(scores + hidden), value)
        states = states + self.output(paddle.reshape(paddle.transpose(mixed, [0, 2, 1, 3]), [-1, LENGTH, WIDTH]))
        narrowed: paddle.Tensor = states + self.narrow(nn.functional.gelu(self.widen(self.norm(states))))
        return narrowed

    def _heads(self, states: paddle.Tensor) -> paddle.Tensor:
        return paddle.transpose(paddle.reshape(states, [-1, LENGTH, HEADS, WIDTH // HEADS]), [0, 2, 1, 3])


class Classifier(nn.Layer):
    """A transformer encoder of 140,000 parameters that classifies by the state of its first token."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(TOKENS, WIDTH)
        self.places = self.create_parameter([1, LENGTH, WIDTH])
        self.blocks = nn.LayerList([Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)
        self.classifier = nn.Linear(WIDTH, len(TOPICS))

    def forward(self, input_ids: paddle.Tensor, attention_mask: paddle.Tensor) -> paddle.Tensor:
        """Return the logits, (n, topics), of token ids and of 1 where a token is, int64 [n, LENGTH] both."""
        hidden = (paddle.unsqueeze(paddle.cast(attention_mask, "float32"), [1, 2]) - 1) * 1e4
        states = self.words(input_ids) + self.places
        for block in self.blocks:
            states = block(states, hidden)
        logits: paddle.Tensor = self.classifier(self.norm(states[:, 0]))
        return logits


def tokenizer() -> Tokenizer:
    """Byte pairs (Sennrich et al., 2016) of the texts for training, [CLS] before each."""
    made = Tokenizer(models.BPE(unk_token="[UNK]"))  # noqa: S106 - a word piece, no secret
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["[PAD]", "[UNK]", "[CLS]"]
    trainer = trainers.BpeTrainer(vocab_size=TOKENS, special_tokens=special, show_progress=False)
    written = islice(texts(SEED, held_back=False), FOR_THE_TOKENIZER)
    made.train_from_iterator((text.text for text in written), trainer)
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", special.index("[CLS]"))]
    )
    return made


def train() -> Classifier:
    """Train on texts that are composed anew for each step, with AdamW under a cosine schedule."""
    paddle.seed(SEED)
    preprocess = parse((MODEL / "tokenizer.json").read_text(encoding="utf-8")).preprocessor(INPUTS)
    writing = texts(SEED + 1, held_back=False)
    net = Classifier()
    schedule = paddle.optimizer.lr.CosineAnnealingDecay(LEARNING_RATE, STEPS)
    optimizer = paddle.optimizer.AdamW(schedule, parameters=net.parameters(), weight_decay=0.02)
    losses = []
    for step in range(1, STEPS + 1):
        batch: list[Text] = list(islice(writing, BATCH))
        feeds = [preprocess(text.text.encode(), "text").feeds for text in batch]
        inputs = (paddle.to_tensor(np.concatenate([feed[item.name] for feed in feeds])) for item in INPUTS)
        loss = nn.functional.cross_entropy(net(*inputs), paddle.to_tensor([text.topic for text in batch]))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        schedule.step()
        losses.append(float(loss))
        if step % 100 == 0:
            print(f"step {step}/{STEPS}: loss {np.mean(losses[-100:]):.4f}", flush=True)
    return net


def export(net: Classifier) -> None:
    """Save the net in Paddle 3's own format."""
    net.eval()
    spec = [paddle.static.InputSpec([1, LENGTH], "int64", item.name) for item in INPUTS]
    paddle.jit.save(net, str(MODEL / "inference"), input_spec=spec)


if __name__ == "__main__":
    MODEL.mkdir(exist_ok=True)
    (MODEL / "tokenizer.json").write_text(tokenizer().to_str(pretty=True) + "\n", encoding="utf-8")
    export(train())
