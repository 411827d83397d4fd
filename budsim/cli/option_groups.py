"""Options that several commands share, written once as the fields of a dataclass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_args, get_type_hints

from typer.models import ParameterInfo


def with_option_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command whose dataclass parameters are given as one option for each field.

    Typer reads options from a function's signature. A parameter annotated with a dataclass, such
    as ``targets: TargetOptions``, becomes the options ``--ttft-ms``, ``--e2e-s`` and so on, listed
    under the dataclass's ``panel`` in the help; the command receives one ``TargetOptions``.
    """
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in groups:
            parameters += _parameters(groups[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))

    @functools.wraps(command)
    def run(**values: Any) -> None:
        """Gather the values of each group into its dataclass."""
        for name, group in groups.items():
            values[name] = group(**{each.name: values.pop(each.name) for each in fields(group)})
        command(**values)

    # Typer follows __wrapped__ to the original signature, which has no single options.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    del run.__wrapped__
    return run


def _parameters(group: Any) -> list[inspect.Parameter]:
    """Return one keyword-only parameter for each field of a dataclass of options."""
    hints = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=_on_panel(hints[field.name], field, group.panel),
        )
        for field in fields(group)
    ]


def _on_panel(hint: Any, field: Field[Any], panel: str) -> Any:
    """Return an option's annotation with the title under which the help lists it."""
    kind, info = get_args(hint)
    if not isinstance(info, ParameterInfo):
        raise TypeError(f"{field.name} is not Annotated with typer.Option")
    # One option may be shared by groups with different titles.
    titled = copy(info)
    titled.rich_help_panel = panel
    return Annotated[kind, titled]
