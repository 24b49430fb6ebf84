"""Writes docs/api from the contract and the client: `python docs/generate.py [--check]`.

The contract's page is made of the comments in the `.proto`, the client's of signatures and
docstrings, so neither can say anything that the code does not.
"""

from __future__ import annotations

import argparse
import enum
import inspect
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from google.protobuf import descriptor_pb2 as descriptors
from grpc_tools import protoc

import unitvec_client

ROOT = Path(__file__).parents[1]
API = ROOT / "docs" / "api"
PROTOS = {
    "contract.md": ("embedding", "The contract: unitvec.v1"),
    "admin.md": ("admin", "For operators: unitvec.v1.AdminService"),
}
"""The pages of `unitvec.v1`: the file that each is made of, and its title."""

_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")
_ENTRY = re.compile(r"^    (\*{0,2}\w[\w.]*): (.*)$")
_SCALARS = {
    number: name.removeprefix("TYPE_").lower()
    for name, number in descriptors.FieldDescriptorProto.Type.items()
}
# Numbers of fields in google/protobuf/descriptor.proto, which paths of comments are made of.
_FILE_MESSAGES, _FILE_ENUMS, _FILE_SERVICES = 4, 5, 6
_MAX_LINE_CHARS = 100
_CHILDREN = 2  # fields of a message, values of an enum, methods of a service


def main(arguments: list[str] | None = None) -> int:
    """Writes the pages, or with --check compares them with what lies there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail if a page is stale")
    check = parser.parse_args(arguments).check
    stale = []
    pages = {name: contract_page(*made_of) for name, made_of in PROTOS.items()}
    for name, text in {**pages, "client.md": client_page()}.items():
        path = API / name
        if check and (not path.exists() or path.read_text("utf-8") != text):
            stale.append(str(path.relative_to(ROOT)))
        elif not check:
            API.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
    if stale:
        print(f"stale: {', '.join(stale)}; run make docs", file=sys.stderr)
    return bool(stale)


def contract_page(name: str, title: str) -> str:
    """The page of a file of `unitvec.v1`: services, messages and enums with their comments."""
    file = _read_proto(name)
    comments = {
        tuple(location.path): " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
    }
    lines = [f"# {title}", "", f"Made of `protos/unitvec/v1/{name}.proto`.", ""]
    for index, service in enumerate(file.service):
        path = (_FILE_SERVICES, index)
        rows = [
            (f"`{rpc.name}`", _rpc_types(rpc), comments.get((*path, _CHILDREN, at), ""))
            for at, rpc in enumerate(service.method)
        ]
        lines += [f"## {service.name}", "", comments.get(path, ""), ""]
        lines += [*_table(("rpc", "request and reply", "what it does"), rows), ""]
    maps = dict(_map_types(file))
    for index, message in enumerate(file.message_type):
        path = (_FILE_MESSAGES, index)
        fields = [
            (
                f"{field.number}",
                f"`{field.name}`",
                _field_type(field, maps),
                comments.get((*path, _CHILDREN, at), ""),
            )
            for at, field in enumerate(message.field)
        ]
        lines += [f"## {message.name}", "", comments.get(path, ""), ""]
        if fields:
            lines += [*_table(("number", "field", "type", "what it is"), fields), ""]
    for index, kind in enumerate(file.enum_type):
        path = (_FILE_ENUMS, index)
        rows = [
            (f"{value.number}", f"`{value.name}`", comments.get((*path, _CHILDREN, at), ""))
            for at, value in enumerate(kind.value)
        ]
        lines += [f"## {kind.name}", "", comments.get(path, ""), ""]
        lines += [*_table(("number", "value", "what it means"), rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def client_page() -> str:
    """The page of `unitvec_client`: every public name with its signature and docstring."""
    lines = ["# The Python client: unitvec_client", ""]
    for name in sorted(unitvec_client.__all__, key=str.lower):
        thing = getattr(unitvec_client, name)
        if inspect.isclass(thing):
            lines += _class_lines(name, thing)
        elif callable(thing):
            lines += [f"## {name}", "", *_signature(name, thing), "", *_prose(thing), ""]
    return "\n".join(lines).rstrip() + "\n"


def _read_proto(name: str) -> descriptors.FileDescriptorProto:
    """A parsed file with its comments."""
    proto = ROOT / "protos" / "unitvec" / "v1" / f"{name}.proto"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "set")
        flags = [f"-I{ROOT / 'protos'}", "--include_source_info", f"--descriptor_set_out={out}"]
        if protoc.main(["protoc", *flags, str(proto)]):
            raise SystemExit("protoc failed")
        return descriptors.FileDescriptorSet.FromString(out.read_bytes()).file[0]


def _rpc_types(rpc: descriptors.MethodDescriptorProto) -> str:
    def name(full: str, streams: bool) -> str:
        return ("stream " if streams else "") + _linked(full)

    request = name(rpc.input_type, rpc.client_streaming)
    return f"{request} → {name(rpc.output_type, rpc.server_streaming)}"


def _field_type(field: descriptors.FieldDescriptorProto, maps: Mapping[str, str]) -> str:
    if field.type_name in maps:
        return maps[field.type_name]
    kind = _linked(field.type_name) if field.type_name else _SCALARS[field.type]
    if field.label == field.LABEL_REPEATED:
        return f"repeated {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def _map_types(file: descriptors.FileDescriptorProto) -> Iterator[tuple[str, str]]:
    """Messages that protoc makes of maps, and what stands in the source."""
    for message in file.message_type:
        for nested in message.nested_type:
            if nested.options.map_entry:
                key, value = (_field_type(field, {}) for field in nested.field)
                yield f".{file.package}.{message.name}.{nested.name}", f"map<{key}, {value}>"


def _linked(full_name: str) -> str:
    name = full_name.rpartition(".")[2]
    if not full_name.startswith(".unitvec."):
        return f"`{full_name.removeprefix('.')}`"
    return f"[{name}](#{name.lower()})"


def _table(head: tuple[str, ...], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"


def _class_lines(name: str, thing: type) -> list[str]:
    lines = [f"## {name}", ""]
    bases = [base.__name__ for base in thing.__bases__ if base.__name__ in unitvec_client.__all__]
    if bases:
        lines += [f"A {' and a '.join(f'[{base}](#{base.lower()})' for base in bases)}.", ""]
    elif not issubclass(thing, enum.Enum | tuple | Warning):
        lines += [*_signature(name, thing), ""]
    lines += [*_prose(thing), ""]
    for method_name, method in vars(thing).items():
        if method_name.startswith("_") or not (inspect.isfunction(method)):
            continue
        signature = _signature(method_name, method)
        lines += [f"### {name}.{method_name}", "", *signature, "", *_prose(method), ""]
    return lines


def _signature(name: str, thing: object) -> list[str]:
    signature = inspect.signature(thing)  # type: ignore[arg-type]  # callables alone come here
    shown: list[str] = []
    for key, parameter in signature.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not any(s.startswith("*") for s in shown):
            shown.append("*")
        if key != "self":
            shown.append(_parameter(parameter))
    prefix = "async " if inspect.iscoroutinefunction(thing) else ""
    result = signature.return_annotation
    arrow = "" if result in (inspect.Signature.empty, None, "None") else f" -> {result}"
    line = f"{prefix}{name}({', '.join(shown)}){arrow}"
    if len(line) > _MAX_LINE_CHARS:
        line = f"{prefix}{name}(\n    " + ",\n    ".join(shown) + f",\n){arrow}"
    return ["```python", line, "```"]


def _parameter(parameter: inspect.Parameter) -> str:
    """As it stands in the source, where annotations are not strings."""
    stars = {"VAR_POSITIONAL": "*", "VAR_KEYWORD": "**"}.get(parameter.kind.name, "")
    annotation = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
    default = "" if parameter.default is parameter.empty else f" = {parameter.default!r}"
    return f"{stars}{parameter.name}{annotation}{default}"


def _prose(thing: object) -> list[str]:
    """A Google docstring as Markdown: its sections become lists."""
    lines: list[str] = []
    section, listed = "", False
    for line in (inspect.getdoc(thing) or "").splitlines():
        if match := _SECTION.match(line):
            section = match[1]
            lines += [f"**{section}**", ""]
            listed = False
        elif section and (entry := _ENTRY.match(line)):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
            listed = True
        elif section and line.startswith("    "):
            lines.append(f"{'  ' if listed else ''}{line.strip()}")
        else:
            section = section if not line else ""
            lines.append(line)
    return lines


if __name__ == "__main__":
    sys.exit(main())
