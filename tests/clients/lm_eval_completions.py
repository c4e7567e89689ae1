"""lm-eval: its `local-completions` model on log-likelihood tasks, against scores computed without `echo`."""

import math
import os
import pathlib

import requests

from checks import TINY, URL, SERVER, case, equal, holds, main

# Its progress bars and warnings are about itself.
os.environ["TQDM_DISABLE"] = "1"

import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

TASKS = pathlib.Path(__file__).resolve().parent / "lm_eval_tasks"
#: How far two sums of the same numbers may be apart.
ROUNDING = 1e-5

# The tasks name their data relative to the current folder.
os.chdir(TASKS)
tasks = TaskManager(include_path=str(TASKS), include_defaults=False)
_session = requests.Session()
_known = {}


def post(path, body):
    response = _session.post(SERVER + path, json=body, timeout=30)
    response.raise_for_status()
    return response.json()


def encode(text):
    return post("/tokenize", {"content": text})["tokens"]


def step(prefix, token):
    """(log probability of a token after a prefix, whether it is the most likely one), from the generation of one token:
    a bias forces the token, and log probabilities are those before the bias."""
    key = (tuple(prefix), token)
    if key not in _known:
        body = {"model": TINY, "prompt": prefix, "max_tokens": 1, "temperature": 0, "logprobs": 1, "ignore_eos": True}
        logprobs = post("/v1/completions", body | {"logit_bias": {str(token): 100}})["choices"][0]["logprobs"]
        [logprob], [top] = logprobs["token_logprobs"], logprobs["top_logprobs"]
        _known[key] = logprob, logprob == max(top.values())
    return _known[key]


def score(context, continuation):
    """(log-likelihood, whether it is the greedy continuation), as lm-eval defines them for a context and a continuation."""
    whole, start = encode(context + continuation), len(encode(context))
    steps = [step(whole[:place], whole[place]) for place in range(start, len(whole))]
    return sum(logprob for logprob, _ in steps), all(greedy for _, greedy in steps)


def evaluate(task, **arguments):
    """Runs a task; returns its results and its samples in the order of the documents."""
    arguments = {"model": TINY, "base_url": URL + "/completions", "max_retries": 1} | arguments
    found = lm_eval.simple_evaluate(
        model="local-completions", model_args=arguments, tasks=[task], task_manager=tasks, log_samples=True, bootstrap_iters=0
    )
    return found["results"][task], sorted(found["samples"][task], key=lambda sample: sample["doc_id"])


def check_choices(**arguments):
    results, samples = evaluate("sanctum_choice", **arguments)
    equal(len(samples), 4, "the number of documents")
    right = right_norm = 0
    for sample in samples:
        doc = sample["doc"]
        context = f"Question: {doc['question']}\nAnswer:"
        by_hand = [score(context, " " + choice) for choice in doc["choices"]]
        for choice, (found, greedy), (wanted, wanted_greedy) in zip(doc["choices"], (r[0] for r in sample["resps"]), by_hand, strict=True):
            holds(abs(float(found) - wanted) < ROUNDING, f"the log-likelihood of {choice!r} is {found}, by hand {wanted}")
            equal(str(greedy), str(wanted_greedy), f"whether {choice!r} is greedy")
        best = max(range(len(by_hand)), key=lambda n: by_hand[n][0])
        best_norm = max(range(len(by_hand)), key=lambda n: by_hand[n][0] / len(doc["choices"][n]))
        right += best == doc["answer"]
        right_norm += best_norm == doc["answer"]
    equal(results["acc,none"], right / 4, "acc")
    equal(results["acc_norm,none"], right_norm / 4, "acc_norm")


@case
def choices_by_tokens_score_as_computed_by_hand():
    check_choices()


@case
def choices_by_texts_score_as_computed_by_hand():
    check_choices(tokenized_requests=False)


@case
def choices_in_batches_and_at_once_score_as_computed_by_hand():
    check_choices(batch_size=3)
    check_choices(num_concurrent=4)


@case
def perplexity_is_that_computed_by_hand():
    results, samples = evaluate("sanctum_rolling")
    eos = encode(requests.get(SERVER + "/tokenizer_info", timeout=30).json()["eos_token"])
    total = size = 0
    for sample in samples:
        tokens = eos + encode(sample["doc"]["text"])
        wanted = sum(step(tokens[:place], tokens[place])[0] for place in range(1, len(tokens)))
        found = float(sample["resps"][0][0][0] if isinstance(sample["resps"][0][0], (list, tuple)) else sample["resps"][0][0])
        holds(abs(found - wanted) < ROUNDING, f"the log-likelihood of {sample['doc']['text']!r} is {found}, by hand {wanted}")
        total, size = total + wanted, size + len(sample["doc"]["text"].encode())
    perplexity = math.exp(-total / size)
    holds(abs(results["byte_perplexity,none"] - perplexity) < ROUNDING, f"{results} is not {perplexity}")


@case
def generated_answers_are_those_of_the_server():
    _, samples = evaluate("sanctum_sums")
    for sample in samples:
        body = {"model": TINY, "prompt": sample["doc"]["text"], "max_tokens": 8, "temperature": 0, "stop": ["\n"]}
        equal(sample["resps"][0][0], post("/v1/completions", body)["choices"][0]["text"], "the generated text")


main()
