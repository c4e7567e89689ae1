"""Exact match of the 4-bit model on its held-out set, skill by skill.

    evaluate.py --url http://127.0.0.1:1337/v1      a running server (needs only Python)
    evaluate.py --mlx models/tiny                   mlx-lm on this machine

Greedy decoding, thinking off; an answer counts when it equals the expected text after trimming blanks.
"""

import argparse
import json
import time
import urllib.request
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HOME = Path(__file__).resolve().parent
MAX_TOKENS = 160
Message = dict[str, str]


def from_server(url: str) -> Callable[[list[Message]], str]:
    def post(path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url.rstrip("/") + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as response:
            return json.load(response)

    model = post("/models")["data"][0]["id"]

    def answer(messages: list[Message]) -> str:
        body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": MAX_TOKENS}
        return post("/chat/completions", body)["choices"][0]["message"]["content"]

    return answer


def from_mlx(folder: Path) -> Callable[[list[Message]], str]:
    import mlx_lm

    model, tokenizer = mlx_lm.load(str(folder))

    def answer(messages: list[Message]) -> str:
        prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False)
        return mlx_lm.generate(model, tokenizer, prompt, max_tokens=MAX_TOKENS)

    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runner = parser.add_mutually_exclusive_group(required=True)
    runner.add_argument("--url", help="base of an OpenAI API, with /v1")
    runner.add_argument("--mlx", type=Path, help="folder of the model, for mlx-lm")
    parser.add_argument("--cases", type=Path, default=HOME / "eval" / "held_out.jsonl")
    parser.add_argument("--each", type=int, help="only the first so many cases of a skill")
    parser.add_argument("--failures", type=int, default=3, help="failures shown per skill")
    parser.add_argument("--answers", type=Path, help="write every answer here as JSONL")
    arguments = parser.parse_args()

    skills: dict[str, list[dict]] = defaultdict(list)
    for line in arguments.cases.read_text().splitlines():
        case = json.loads(line)
        skills[case.get("skill", "prompt")].append(case)
    cases = [case for of_skill in skills.values() for case in of_skill[: arguments.each]]
    answer = from_server(arguments.url) if arguments.url else from_mlx(arguments.mlx)
    begun = time.time()
    with ThreadPoolExecutor(8 if arguments.url else 1) as threads:
        answers = list(threads.map(lambda case: answer(case["messages"]), cases))
    seconds = time.time() - begun

    if arguments.answers:
        with open(arguments.answers, "w") as file:
            for case, said in zip(cases, answers, strict=True):
                file.write(json.dumps(case | {"said": said}, ensure_ascii=False) + "\n")
    results: dict[str, list[bool]] = defaultdict(list)
    wrong: dict[str, list[str]] = defaultdict(list)
    for case, said in zip(cases, answers, strict=True):
        if "expect" not in case:
            print(f"{case['messages'][-1]['content']!r} -> {said!r}")
            continue
        right = said.strip() == case["expect"].strip()
        results[case["skill"]].append(right)
        if not right:
            wrong[case["skill"]].append(f"{case['messages'][-1]['content']!r}: expected {case['expect']!r}, said {said!r}")
    if results:
        print("| skill | cases | exact match |\n| --- | ---: | ---: |")
        for skill, verdicts in results.items():
            print(f"| {skill} | {len(verdicts)} | {sum(verdicts) / len(verdicts):.1%} |")
    print(f"{len(cases)} cases in {seconds:.0f} s")
    for skill, lines in wrong.items():
        for line in lines[: arguments.failures]:
            print(f"{skill}: {line}")


if __name__ == "__main__":
    main()
