"""Docstrings and fields as the reference shows them, where their own form is hard to read."""

import ast
from typing import Any

import griffe


class Docstrings(griffe.Extension):
    """Examples become code, descriptions docstrings; options stand where they are used."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change an object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = marked(obj.docstring.value)
        if isinstance(obj, griffe.Attribute) and isinstance(obj.value, griffe.ExprCall):
            _describe(obj, obj.value)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Put the attributes of `RelationsOptions` into the docstring of `Relations`, and so on."""
        for module in pkg["objectives"].modules.values():
            for found in module.classes.values():
                for base in () if found.is_alias else found.resolved_bases:
                    if base.name == f"{found.name}Options" and base.docstring and found.docstring:
                        _, title, attributes = base.docstring.value.partition("\nAttributes:\n")
                        above, _, own = found.docstring.value.partition("\nAttributes:\n")
                        own = f"\n{own}" if own else ""
                        found.docstring.value = f"{above}\n{title}{attributes.rstrip()}{own}"


def marked(docstring: str) -> str:
    """A docstring with each example, which ends at an empty line, as a block of code.

    Markdown would show its ``>>>`` as quotations.
    """
    found: list[str] = []
    inside = False
    for line in [*docstring.splitlines(), ""]:
        begins = line.lstrip().startswith(">>>") and not inside
        if begins:
            found.append("```pycon")
        if inside and not line.strip():
            found.append("```")
        inside = begins or (inside and bool(line.strip()))
        found.append(line)
    return "\n".join(found)


def _describe(field: griffe.Attribute, value: griffe.ExprCall) -> None:
    """Show the description and the default of a pydantic field, not the call that gives them."""
    if str(value.function) != "Field":
        return
    named = {
        argument.name: argument.value
        for argument in value.arguments
        if isinstance(argument, griffe.ExprKeyword)
    }
    if "description" in named and field.docstring is None:
        text = ast.literal_eval(str(named["description"]))
        field.docstring = griffe.Docstring(text[:1].upper() + text[1:] + ".", parent=field)
    defaults = [one for one in value.arguments if not isinstance(one, griffe.ExprKeyword)]
    field.value = defaults[0] if defaults else None
