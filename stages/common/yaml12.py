"""YAML as DVC reads it, by libyaml: DVC takes plain scalars by YAML 1.2, PyYAML by YAML 1.1.

To YAML 1.1, `1e-2` and `0o10` are texts, `010` is eight, `12:30` is 750, and `yes` and `off` are truth values. What
counts is what DVC tells of params.yaml and writes into dvc.lock, so the forms are those of its reader, ruamel.yaml
0.19, which keeps `_` in numbers and `0b` of YAML 1.1 (ruamel.yaml.resolver.implicit_resolvers). ruamel.yaml itself
takes 8 times as long for dvc.lock.
"""

import re
from typing import Any

import yaml

_BOOL, _INT, _FLOAT = (f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float"))
# With the characters that such a scalar may begin with.
_PLAIN = {
    _BOOL: (re.compile(r"(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    _FLOAT: (
        re.compile(
            r"(?:[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)"
            r"|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        "-+.0123456789",
    ),
    _INT: (re.compile(r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9_]+)$"), "-+0123456789"),
}
_BASES = {"0b": 2, "0o": 8, "0x": 16}


# CSafeLoader is ten times as fast.
class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """A loader that refuses a key given twice, where PyYAML would silently take the last."""

    yaml_implicit_resolvers = {  # noqa: RUF012  # PyYAML's own way
        first: [(tag, form) for tag, form in forms if tag not in _PLAIN]
        for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        if isinstance(node, yaml.MappingNode):
            seen = set()
            for key, _ in node.value:
                name = (key.tag, key.value if isinstance(key.value, str) else id(key))
                if name in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"key '{key.value}' is given twice")
                seen.add(name)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes each text that either version of YAML would take for another thing."""


for _tag, (_form, _first) in _PLAIN.items():
    Loader.add_implicit_resolver(_tag, _form, list(_first))
    _Dumper.add_implicit_resolver(_tag, _form, list(_first))


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "")
    digits = text.lstrip("-+")
    base = _BASES.get(digits[:2])
    number = int(digits[2:], base) if base else int(digits)
    return -number if text[0] == "-" else number


def _float(loader: Any, node: yaml.ScalarNode) -> float:
    # Python's own word for infinity and nan has no dot before it.
    return float(re.sub(r"\.(?=[in])", "", loader.construct_scalar(node).replace("_", "").lower()))


Loader.add_constructor(_INT, _integer)
Loader.add_constructor(_FLOAT, _float)


def load_bounded(text: str, depth: int, values: int) -> Any:
    """The one document of `text`. ValueError where it is no YAML, has tags, is nested more than `depth` levels deep, or
    has, with its aliases written out, more than `values` values."""
    try:
        _require_small(text, depth, values)
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None


def _require_small(text: str, depth: int, values: int) -> None:
    """ValueError where a YAML document is deeper or, with its aliases written out, larger than the limits, or has tags.

    Found from its events: libyaml's composer overflows the stack, ten lines of aliases stand for billions of values,
    and PyYAML raises AttributeError or KeyError for a text with the tag of a date or a truth value.
    """
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader):
        if tag := getattr(event, "tag", None):
            raise ValueError(f"tag {tag!r}; expected plain data")
        match event:
            case yaml.DocumentStartEvent(version=version) if version and tuple(version) != (1, 2):
                raise ValueError(f"%YAML {version[0]}.{version[1]}, by which numbers are other ones")
            case yaml.CollectionStartEvent():
                open_nodes.append((event.anchor, total))
                total += 1
                if len(open_nodes) > depth:
                    raise ValueError(f"nested more than {depth} levels deep")
            case yaml.CollectionEndEvent():
                anchor, before = open_nodes.pop()
                if anchor:
                    sizes[anchor] = total - before
            case yaml.ScalarEvent():
                total += 1
                if event.anchor:
                    sizes[event.anchor] = 1
            case yaml.AliasEvent():
                if event.anchor not in sizes:
                    raise ValueError(f"alias {event.anchor!r} stands for nothing, or for what it stands in")
                total += sizes[event.anchor]
        if total > values:
            raise ValueError(f"more than {values:,} values")


def dump_yaml(content: Any, **options: Any) -> str:
    """Plain data as YAML that both versions read alike. `options`: those of `yaml.dump`."""
    text: str = yaml.dump(content, Dumper=_Dumper, **options)
    return text
