"""Makes the tokenizer and the text encoder of the shapes experiment.

Takes: a folder of captions, and the pipeline directory that gets both components.
Gives: `tokenizer/`, whose merges make each word of the captions one token and which still splits
any other word into letters; `text_encoder/`, a CLIP of two layers, trained to say at the end of a
caption what the caption says, and frozen from then on; its weights are in half precision.
Never: sees a picture.

    python tests/scripts/shapes_text.py CAPTIONS OUT
"""

import argparse
import itertools
import json
import pathlib
import re

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

TOKENS = 16
WIDTH = 64
STEPS = 600
BATCH = 128
START, END = "<|startoftext|>", "<|endoftext|>"
# What a caption says, as patterns with one group; no match is an answer too.
QUESTIONS = {
    "shape": r"(circle|square|triangle|cross)",
    "colour": r"(red|green|blue|yellow|purple|orange) (?:circle|square|triangle|cross)",
    "background": r"(red|green|blue|yellow|purple|orange) background",
    "size": r"(small|large)",
    "position": r"((?:top|bottom) (?:left|right)|middle)",
}


def letters() -> list[str]:
    """The characters that stand for the 256 bytes, in the order of CLIP's vocabulary."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (chr(256 + n) for n in range(256 - len(plain)))
    return [chr(byte) for byte in plain] + list(others)


def split(word: str, merges: list[tuple[str, str]]) -> list[str]:
    """Splits a word as byte-pair encoding does."""
    symbols = [*word[:-1], word[-1] + "</w>"]
    while True:
        pairs = [pair for pair in merges if pair in itertools.pairwise(symbols)]
        if not pairs:
            return symbols
        at = list(itertools.pairwise(symbols)).index(pairs[0])
        symbols[at : at + 2] = ["".join(pairs[0])]


def write_tokenizer(words: list[str], out: pathlib.Path) -> CLIPTokenizer:
    merges: list[tuple[str, str]] = []
    for word in words:
        symbols = split(word, merges)
        # Later merges come after all that make the earlier words, and so never disturb them.
        while len(symbols) > 1:
            merges.append((symbols[0], symbols[1]))
            symbols[:2] = ["".join(symbols[:2])]
        assert len(split(word, merges)) == 1, word
    names = [*letters(), *(letter + "</w>" for letter in letters())]
    names += dict.fromkeys("".join(pair) for pair in merges)
    names += [START, END]
    out.mkdir(parents=True, exist_ok=True)
    vocabulary = {name: number for number, name in enumerate(names)}
    (out / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (out / "merges.txt").write_text("\n".join(lines) + "\n")
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, **special}
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (out / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    return CLIPTokenizer.from_pretrained(out)


def train(model: CLIPTextModel, ids: torch.Tensor, answers: torch.Tensor) -> float:
    """Trains for what captions say; returns the share of captions of which all is right."""
    heads = torch.nn.Linear(WIDTH, len(QUESTIONS) * 8)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)

    def logits(ids: torch.Tensor) -> torch.Tensor:
        states = model(ids).last_hidden_state
        # The first end of a caption and all padding after it have read the whole caption.
        ends = ids.eq(model.config.eos_token_id).float()
        chosen = torch.multinomial(ends, 1)[:, 0]
        read = states[torch.arange(len(ids)), chosen]
        return heads(read).view(len(ids), 8, len(QUESTIONS))

    for _ in range(STEPS):
        chosen = torch.randint(len(ids), (BATCH,))
        loss = torch.nn.functional.cross_entropy(logits(ids[chosen]), answers[chosen])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return logits(ids[:2000]).argmax(1).eq(answers[:2000]).all(1).float().mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captions", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    files = sorted(arguments.captions.glob("*.txt"))[:8000]
    captions = [file.read_text().strip() for file in files]
    words = sorted({word for caption in captions for word in caption.split()})
    tokenizer = write_tokenizer(words, arguments.out / "tokenizer")
    print(f"{len(words)} words, {len(tokenizer)} tokens, {tokenizer.tokenize(captions[0])},"
          f" {tokenizer.tokenize('a dog, 3 Zebras!')}")
    texts = [*captions, *[""] * 200]
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert ids.shape[1] == TOKENS and ids[:, -1].eq(tokenizer.eos_token_id).all()
    answers = torch.zeros(len(texts), len(QUESTIONS), dtype=torch.long)
    for column, pattern in enumerate(QUESTIONS.values()):
        found = [match and match[1] for match in (re.search(pattern, text) for text in texts)]
        kinds = {kind: n for n, kind in enumerate(sorted({kind or "" for kind in found}))}
        answers[:, column] = torch.tensor([kinds[kind or ""] for kind in found])
    model = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=2 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            projection_dim=WIDTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    print(f"{sum(p.numel() for p in model.parameters())} parameters,"
          f" right {train(model, ids, answers):.4f}")
    states = model.eval()(ids[:64]).last_hidden_state
    print(f"deviation of the states {states.std():.3f}")
    model.half().save_pretrained(arguments.out / "text_encoder")


if __name__ == "__main__":
    main()
