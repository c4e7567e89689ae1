"""What the client programs share: where the server is, how a case is declared, how its outcome is printed.

A program declares cases with `@case` and ends with `main()`, which runs them in order and prints one line each:
`ok NAME`, or `failed NAME: why`. It exits with 1 if one failed. `main` takes names of cases as arguments.
"""

import asyncio
import contextlib
import inspect
import os
import pathlib
import signal
import sys
import traceback

from pydantic import BaseModel

#: The server's address without `/v1`, as Anthropic's clients want it.
SERVER = os.environ["SANCTUM_URL"]
#: The base URL that OpenAI's clients want.
URL = SERVER + "/v1"
#: The model that says what scripts.py has for `[NAME]`.
SCRIPTED = "scripted"
#: The model that is built into the server: it knows sums and capitals, and nothing of JSON or tools.
TINY = "sanctum-tiny"
CASE_SECONDS = 60

_cases = []


class City(BaseModel):
    """A city and what is known of it."""

    name: str
    country: str
    population: int


def case(function):
    """Declares a case: a function, plain or asynchronous, that raises when the client did not get what it must."""
    _cases.append(function)
    return function


def equal(got, wanted, what="it"):
    if got != wanted:
        raise AssertionError(f"{what} is {got!r}, expected {wanted!r}")


def holds(condition, message):
    if not condition:
        raise AssertionError(message)


def raises(kinds, function, *args, **kwargs):
    """Calls a function that must raise one of these exceptions, and returns the exception."""
    try:
        got = function(*args, **kwargs)
    except kinds as error:
        return error
    raise AssertionError(f"no error was raised; the call returned {got!r}")


def _reason(error):
    """One line: the exception, and the line of the program that it came from."""
    here = pathlib.Path(sys.argv[0]).name
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if pathlib.Path(frame.filename).name == here]
    text = " ".join(str(error).split())
    if len(text) > 600:
        text = text[:600] + "…"
    cause = error.__cause__ or error.__context__
    if not text and cause is not None:
        text = " ".join(str(cause).split())[:600]
    name = "" if type(error) is AssertionError else f"{type(error).__name__}: "
    return f"{name}{text} ({here}:{lines[-1] if lines else '?'})"


def _alarm(*_):
    raise TimeoutError(f"no answer within {CASE_SECONDS} s")


def main():
    chosen = [function for function in _cases if not sys.argv[1:] or function.__name__ in sys.argv[1:]]
    signal.signal(signal.SIGALRM, _alarm)
    failed = 0
    # One event loop for all cases, since clients keep connections open on it.
    with asyncio.Runner() as runner:
        for function in chosen:
            signal.alarm(CASE_SECONDS)
            try:
                # Standard output is for outcomes; some clients print to it.
                with contextlib.redirect_stdout(sys.stderr):
                    if inspect.iscoroutinefunction(function):
                        runner.run(function())
                    else:
                        function()
                print(f"ok {function.__name__}", flush=True)
            except Exception as error:
                failed += 1
                print(f"failed {function.__name__}: {_reason(error)}", flush=True)
                if os.environ.get("CLIENTS_TRACEBACK"):
                    traceback.print_exception(error)
            finally:
                signal.alarm(0)
    sys.exit(1 if failed or not chosen else 0)
