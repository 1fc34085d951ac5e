"""The parameters that an axis can have, and how their values are written: "1, 2, 5", "1-9 (+2)", "0-1 [5]"."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from webui.extensions.api import GenerateRequest

MAX_VALUES = 1000
NUMBER = r"-?\d+(?:\.\d+)?"
RANGE = re.compile(
    rf"({NUMBER})\s*-\s*({NUMBER})(?:\s*\(\s*([+-]?{NUMBER.removeprefix('-?')})\s*\)|\s*\[\s*(\d+)\s*\])?"
)

Value = int | float | str


class AxisError(ValueError):
    """What is written cannot be used; `key` is the text that says why, `values` fill it in."""

    def __init__(self, key: str, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.values = values


@dataclass(frozen=True, slots=True)
class Parameter:
    """One that an axis can have: `read` makes its values of what is written, `put` a request with one of them."""

    name: str
    read: Callable[[str], tuple[Value, ...]]
    put: Callable[[GenerateRequest, Value, tuple[Value, ...]], GenerateRequest]


@dataclass(frozen=True, slots=True)
class Axis:
    """A parameter and its values, in the order in which they are drawn."""

    parameter: str
    values: tuple[Value, ...]

    def put(self, request: GenerateRequest, place: int) -> GenerateRequest:
        """The request with the value at that place. Raises AxisError."""
        return PARAMETERS[self.parameter].put(request, self.values[place], self.values)

    def label(self, place: int) -> str:
        """The value as a person writes it."""
        value = self.values[place]
        return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)


def read_axis(parameter: str, written: str) -> Axis:
    """The axis that was written; raises AxisError."""
    values = PARAMETERS[parameter].read(written)
    if not values:
        raise AxisError("no_values")
    return Axis(parameter, values)


def read_texts(written: str) -> tuple[str, ...]:
    """Texts with commas between them; one with a comma in it stands in double quotes."""
    try:
        rows = list(csv.reader([" ".join(written.splitlines())], skipinitialspace=True))
    except csv.Error as error:
        raise AxisError("not_a_list", written=written[:100]) from error
    texts = tuple(text.strip() for row in rows for text in row if text.strip())
    if len(texts) > MAX_VALUES:
        raise AxisError("too_many_values", limit=MAX_VALUES)
    return texts


def read_numbers(written: str) -> tuple[float, ...]:
    """Numbers and ranges: "1-3" steps by one, "1-9 (+2)" by two, "0-1 [5]" has five values, ends included."""
    numbers: list[float] = []
    for part in read_texts(written):
        if match := RANGE.fullmatch(part):
            numbers.extend(_range(*match.groups()))
        else:
            numbers.append(_number(part))
        if len(numbers) > MAX_VALUES:
            raise AxisError("too_many_values", limit=MAX_VALUES)
    return tuple(numbers)


def read_whole_numbers(written: str) -> tuple[int, ...]:
    """As `read_numbers`; those that a range of so many values meets between two whole numbers are rounded."""
    return tuple(round(number) for number in read_numbers(written))


def _range(first: str, last: str, step: str | None, count: str | None) -> list[float]:
    start, end = _number(first), _number(last)
    if count is not None:
        wanted = int(count)
        if not 2 <= wanted <= MAX_VALUES:
            raise AxisError("bad_count", high=MAX_VALUES)
        return [start + (end - start) * place / (wanted - 1) for place in range(wanted)]
    stride = abs(_number(step)) if step is not None else 1.0
    if stride == 0:
        raise AxisError("not_a_number", written=str(step))
    places = math.floor(abs(end - start) / stride + 1e-9) + 1
    if places > MAX_VALUES:
        raise AxisError("too_many_values", limit=MAX_VALUES)
    return [round(start + math.copysign(stride, end - start) * place, 10) for place in range(places)]


def _number(written: str) -> float:
    try:
        number = float(written)
    except ValueError:
        raise AxisError("not_a_number", written=written[:100]) from None
    if not abs(number) < 2**53:  # NaN is not either
        raise AxisError("not_a_number", written=written[:100])
    return number


def _field(name: str) -> Callable[[GenerateRequest, Value, tuple[Value, ...]], GenerateRequest]:
    def put(request: GenerateRequest, value: Value, _values: Sequence[Value]) -> GenerateRequest:
        changed: dict[str, object] = {name: value}
        return replace(request, **changed)  # type: ignore[arg-type]

    return put


def _replaced(request: GenerateRequest, value: Value, values: tuple[Value, ...]) -> GenerateRequest:
    """The first value is what is looked for in both prompts, and each is put in its place."""
    sought = str(values[0])
    if sought not in request.prompt + request.negative_prompt:
        raise AxisError("not_in_prompt", written=sought[:100])
    return replace(
        request,
        prompt=request.prompt.replace(sought, str(value)),
        negative_prompt=request.negative_prompt.replace(sought, str(value)),
    )


PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter("prompt_words", read_texts, _replaced),
        Parameter("negative_prompt", read_texts, _field("negative_prompt")),
        Parameter("seed", read_whole_numbers, _field("seed")),
        Parameter("steps", read_whole_numbers, _field("steps")),
        Parameter("guidance_scale", read_numbers, _field("guidance_scale")),
        Parameter("sampler", read_texts, _field("sampler")),
        Parameter("model", read_texts, _field("model")),
        Parameter("width", read_whole_numbers, _field("width")),
        Parameter("height", read_whole_numbers, _field("height")),
    )
}
