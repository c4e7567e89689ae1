"""instructor: response models in each of its modes."""

from collections.abc import Iterable

import instructor
from openai import OpenAI
from pydantic import BaseModel, ConfigDict

from checks import SCRIPTED, TINY, City, case, equal, holds, main

ROME = City(name="Rome", country="Italy", population=2873000)
NAPOLI = City(name="Napoli", country="Italia", population=914000)


def same(got, wanted):
    """Compares models by their fields: instructor returns instances of subclasses, which are never equal."""
    plain = lambda model: [one.model_dump() for one in model] if isinstance(model, list) else model.model_dump()  # noqa: E731
    equal(plain(got), plain(wanted), "the model")


def extract(mode, script, response_model=City, model=SCRIPTED, **more):
    client = instructor.from_openai(OpenAI(), mode=mode)
    messages = [{"role": "user", "content": script}]
    return client.chat.completions.create(model=model, messages=messages, response_model=response_model, max_retries=0, **more)


@case
def default_mode():
    client = instructor.from_openai(OpenAI())
    city = client.chat.completions.create(model=SCRIPTED, messages=[{"role": "user", "content": "[city-tool]"}], response_model=City)
    same(city, NAPOLI)


@case
def provider_by_name():
    client = instructor.from_provider(f"openai/{SCRIPTED}")
    city = client.chat.completions.create(messages=[{"role": "user", "content": "[city-tool]"}], response_model=City)
    same(city, NAPOLI)


@case
def tools_mode():
    same(extract(instructor.Mode.TOOLS, "[city-tool]"), NAPOLI)


@case
def tools_strict_mode():
    same(extract(instructor.Mode.TOOLS_STRICT, "[city-tool]"), NAPOLI)


@case
def json_schema_mode():
    same(extract(instructor.Mode.JSON_SCHEMA, "[city]"), ROME)


@case
def json_mode():
    same(extract(instructor.Mode.JSON, "[city]"), ROME)


@case
def markdown_json_mode():
    same(extract(instructor.Mode.MD_JSON, "[city-markdown]"), City(name="Pisa", country="Tuscany", population=90000))


@case
def responses_tools_mode():
    client = instructor.from_openai(OpenAI(), mode=instructor.Mode.RESPONSES_TOOLS)
    city = client.responses.create(model=SCRIPTED, input="[city-tool]", response_model=City, max_retries=0)
    same(city, NAPOLI)


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


@case
def parallel_tools_mode():
    found = list(extract(instructor.Mode.PARALLEL_TOOLS, "[two-models]", Iterable[Weather]))
    same(found, [Weather(city="Lima", days=6), Weather(city="Quito", days=7)])


@case
def partial_models_stream():
    client = instructor.from_openai(OpenAI())
    messages = [{"role": "user", "content": "[partial-city-tool]"}]
    partial = client.chat.completions.create_partial(model=SCRIPTED, messages=messages, response_model=City)
    same(list(partial)[-1], City(name="Amalfi", country="Campania", population=4800))


@case
def completion_is_returned_beside_the_model():
    client = instructor.from_openai(OpenAI())
    messages = [{"role": "user", "content": "[city-tool]"}]
    city, completion = client.chat.completions.create_with_completion(model=SCRIPTED, messages=messages, response_model=City)
    same(city, NAPOLI)
    equal(completion.model, SCRIPTED, "the completion's model")


class Verdict(BaseModel):
    """A verdict; without `extra` its schema allows more keys, which a model without knowledge adds without end."""

    model_config = ConfigDict(extra="forbid")

    certain: bool


@case
def built_in_model_is_forced():
    for mode in (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA):
        verdict = extract(mode, "What is 7 times 8?", Verdict, TINY, max_tokens=300)
        holds(isinstance(verdict, Verdict), f"mode {mode} gives {verdict!r}")


if __name__ == "__main__":
    main()
