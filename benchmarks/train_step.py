"""Training pairs per second: captions padded to the longest of the batch against captions padded to 77 tokens.

    python benchmarks/train_step.py

The default model, forward, backward and optimizer; captions of the default corpus, audio of 20 s.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from transformers import AutoTokenizer


ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from configuration_muscall import MusCALLConfig  # noqa: E402, found through the path above
from modeling_muscall import MusCALLModel  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5, help="steps timed for each side, in turns")
    args = parser.parse_args()

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = MusCALLModel(MusCALLConfig()).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    tokenizer = AutoTokenizer.from_pretrained(ROOT, trust_remote_code=True)
    rows = [json.loads(line) for line in (ROOT / "corpus" / "captions.jsonl").read_text().splitlines()]
    captions = [rows[index]["captions"][0] for index in torch.randperm(len(rows))]
    waves = torch.randn(args.batch_size, 320000, device=device) / 10

    def step(number, padding):
        start = number * args.batch_size % (len(captions) - args.batch_size)
        text = tokenizer(captions[start:][: args.batch_size], padding=padding, truncation=True, return_tensors="pt")
        model(**text.to(device), input_values=waves, return_loss=True).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        return text.input_ids.shape[1]

    times, tokens = {"longest": [], "max_length": []}, {"longest": [], "max_length": []}
    for number in range(args.steps + 1):
        for padding in times:
            start = time.perf_counter()
            length = step(number, padding)
            if number > 0:  # the first step warms up
                times[padding].append(time.perf_counter() - start)
                tokens[padding].append(length)
    rates = {padding: args.batch_size / min(values) for padding, values in times.items()}
    print(f"{device}, {torch.get_num_threads()} threads, batch {args.batch_size}")
    for padding, rate in rates.items():
        mean = sum(tokens[padding]) / len(tokens[padding])
        print(f"padded to {padding} ({mean:.0f} tokens): {rate:.1f} pairs/s")
    print(f"ratio {rates['longest'] / rates['max_length']:.2f}")


if __name__ == "__main__":
    main()
