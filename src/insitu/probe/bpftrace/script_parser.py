"""Text to syntax tree: probes, macros, functions and what else a script has at its outermost level."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.bpftrace.lexer import unescape
from insitu.probe.bpftrace.preprocess import Includes, Preprocessed, preprocess
from insitu.probe.bpftrace.statement_parser import StatementParser
from insitu.probe.bpftrace.type_parser import DEFINITIONS
from insitu.probe.providers.base import SOURCE_KINDS
from insitu.probe.source import ScriptError, Source, Span

if TYPE_CHECKING:
    from insitu.probe.bpftrace.imports import Imports

__all__ = ["parse"]

# Kinds whose second part is a path, which may hold slashes.
_PATH_KINDS = frozenset(("uprobe", "uretprobe", "usdt", "u", "ur"))
_SHOWN_WARNINGS = 3  # of one header
_ATTACH_END = re.compile(r"[\s,{]")


# The parser, and every pass over its tree, recurses as deep as TokenStream.nested() lets a script nest.
_RECURSION_LIMIT = 20_000


def parse(source: Source, parameters: list[str] | None = None, includes: Includes | None = None) -> ast.Program:
    """The tree of a script; ``parameters`` are the positional parameters' texts, needed inside attach points.

    ``includes``: where its headers are looked for.

    :raises ScriptError: with the place, what was found and what was expected.
    """
    sys.setrecursionlimit(max(sys.getrecursionlimit(), _RECURSION_LIMIT))
    files = _Files(includes or Includes())
    program = _Parser(source, preprocess(source, 0, files.includes), parameters or [], files).program()
    if not program.probes:
        raise ScriptError("no probe in the script", source, Span(0, 0), remedy="try: BEGIN { ... }")
    return program


class _Files:
    """What a script and its imports have read: ``imports`` is made when the first is met."""

    def __init__(self, includes: Includes) -> None:
        self.includes = includes
        self.imports: Imports | None = None
        self.headers: set[int] = set()  # parsed


class _Parser(StatementParser):
    """Reads one file."""

    def __init__(
        self,
        source: Source,
        preprocessed: Preprocessed,
        parameters: list[str],
        files: _Files,
        *,
        imported: bool = False,
    ) -> None:
        super().__init__(source, preprocessed.text, preprocessed.defines, parameters)
        self._preprocessed = preprocessed
        self._files = files
        self._is_imported = imported
        self._probes_begun = False

    def program(self) -> ast.Program:
        """The file's tree, with those of the files that it imports, which come first."""
        program = ast.Program(Span(0, len(self.source.text)), [], [], [], [], {})
        program.warnings += self._preprocessed.warnings
        if self._preprocessed.headers:
            self._include(program)
        while self.token.kind != "end":
            word = self.token.text
            if word in DEFINITIONS and self.token.kind == "name":
                program.structures += self.definition()
            elif word == "macro" and self._peek().kind == "name":
                program.macros.append(self._macro())
            elif word == "config" and self._peek().text == "=":
                if self._is_imported:
                    raise self.error("config is not allowed in an imported file", self.token.span)
                program.config |= self._config()
            elif word == "import" and self._peek().kind == "string":
                self._import(program)
            elif word == "fn" and self._peek().kind == "name":
                program.functions.append(self._function())
            elif word == "let" and self._peek().kind == "map":
                program.maps.append(self._map_declaration())
            elif word in (";",):
                self._advance()
            else:
                self._probes_begun = True
                program.probes.append(self._probe())
        program.structures += self.extra_structures
        return program

    def _import(self, program: ast.Program) -> None:
        if self._probes_begun:
            raise self.error("imports must come before the first probe", self.token.span)
        self._advance()
        token = self._advance()
        self._accept(";")
        files = self._files
        if files.imports is None:
            # Scripts that import nothing start without.
            from insitu.probe.bpftrace.imports import Imports

            files.imports = Imports(self.source)
        for start in files.imports.add(unescape(token.text).decode("utf-8", "surrogateescape"), token.span):
            preprocessed = preprocess(self.source, start, files.includes)
            inner = _Parser(self.source, preprocessed, self.parameters, files, imported=True)
            imported = inner.program()
            self.enumerators |= inner.enumerators
            program.warnings += imported.warnings
            self.type_names |= inner.type_names
            self.macro_names |= inner.macro_names
            self._defines.update({name: text for name, text in inner._defines.items() if name not in self._defines})
            program.probes += imported.probes
            program.structures += imported.structures
            program.macros += imported.macros
            program.functions += imported.functions
            program.maps += imported.maps

    def _include(self, program: ast.Program) -> None:
        """Take over what the headers declare."""
        from insitu.probe.bpftrace.headers import HeaderParser

        for start, text in self._preprocessed.headers.items():
            if start in self._files.headers:
                continue
            self._files.headers.add(start)
            defines = self._preprocessed.in_headers
            parser = HeaderParser(self.source, " " * start + text, defines, self.enumerators)
            program.structures += parser.declarations()
            self.type_names |= parser.type_names
            left_out = parser.warnings
            program.warnings += left_out[:_SHOWN_WARNINGS]
            if len(left_out) > _SHOWN_WARNINGS:
                more = len(left_out) - _SHOWN_WARNINGS
                program.warnings.append(f"{self.source.name_at(Span(start, start))}: {more} more are left out")

    # Probes

    def _probe(self) -> ast.Probe:
        start = self.token.span
        points: list[ast.AttachText] = []
        if self.token.kind == "name" and self._peek().text == "=":  # a name, which bpftrace reserves for later
            self._advance()
            self._advance()
        separator = ""
        while True:
            if self.token.kind not in ("name", "positional") and self.token.text != "*":
                raise self.unexpected("a probe, such as tracepoint:sched:sched_switch")
            points.append(self._attach_point(instead=separator == "||"))
            separator = self.token.text
            if separator not in (",", "||"):
                break
            self._advance()
            if separator == "," and self.token.text in ("{", "/"):
                break
        predicate = None
        if self.token.text == "/":
            self._advance()
            self.in_predicate = True
            predicate = self.expression()
            self.in_predicate = False
            self._expect("/", "the end of the predicate: /")
        if self.token.text != "{":
            raise self.unexpected("'{'" if predicate else "a predicate between slashes, or '{'")
        body = self._block()
        return ast.Probe(start.to(body.span), points, predicate, body)

    def _attach_point(self, *, instead: bool) -> ast.AttachText:
        """Read raw characters: what an attach point is made of are not tokens of the language."""
        start = position = self.token.span.start
        text = self.text
        parts: list[str] = []
        part = ""
        while position < len(text):
            c = text[position]
            if c == '"':
                end = position + 1
                while end < len(text) and text[end] != '"':
                    end += 2 if text[end] == "\\" else 1
                if end >= len(text):
                    raise self.error("unterminated string", Span(position, position + 1))
                part += unescape(text[position : end + 1]).decode("utf-8", "replace")
                position = end + 1
            elif c == "$" and (match := re.match(r"\$(\d+|#)", text[position:])):
                # Colons in a parameter separate parts, as in the script itself: "$1 { }" may be a whole attach point.
                span = Span(position, position + match.end())
                given = self._parameter_text(match.group(1), span, inside=bool(part))
                *whole, part = (part + given).split(":")
                parts += whole
                position += match.end()
            elif c == ":":
                parts.append(part)
                part = ""
                position += 1
            elif c == "@" and not parts and part.lower() in SOURCE_KINDS:
                parts.append(part)
                part = c
                position += 1
            elif _ATTACH_END.match(c) or (c == "/" and not self._takes_path(parts, part)):
                break
            else:
                part += c
                position += 1
        parts.append(part)
        self._seek(position)
        return ast.AttachText(Span(start, position), tuple(parts), instead)

    @staticmethod
    def _takes_path(parts: list[str], part: str) -> bool:
        """Whether the part of an attach point that is read may hold slashes."""
        kind = parts[0].lower() if len(parts) == 1 else ""
        return kind in _PATH_KINDS or (kind in SOURCE_KINDS and part.startswith("@"))

    def _parameter_text(self, index: str, span: Span, *, inside: bool) -> str:
        """A positional parameter in an attach point; ``inside`` of a name, of which it could be a part as it is."""
        if index == "#":
            return str(len(self.parameters))
        number = int(index)
        if not 1 <= number <= len(self.parameters):
            remedy = "add it after the script"
            if inside:
                remedy += f"; if the name itself has ${index} in it, put the name in double quotes"
            raise self.error(f"positional parameter ${index} is not given", span, remedy=remedy)
        return self.parameters[number - 1]

    # Definitions

    def _macro(self) -> ast.Macro:
        start = self._advance().span
        name = self._name("the macro's name")
        self._expect("(")
        parameters: list[str] = []
        while self.token.text != ")":
            if self.token.kind not in ("name", "variable", "map"):
                raise self.unexpected("a parameter: $variable, @map or a name")
            parameters.append(self._advance().text)
            if not self._accept(","):
                break
        self._expect(")")
        if self.token.text != "{":
            raise self.unexpected("'{'")
        self.macro_names.add(name)
        self.type_parameters = {each for each in parameters if each[0] not in "$@"}
        body = self.block_expression()
        self.type_parameters = set()
        return ast.Macro(start.to(body.span), name, parameters, body)

    def _function(self) -> ast.Function:
        start = self._advance().span
        name = self._name("the function's name")
        self._expect("(")
        parameters: list[ast.Parameter] = []
        while self.token.text != ")":
            if self.token.kind != "variable":
                raise self.unexpected("a parameter, as in $a : int64")
            token = self._advance()
            self._expect(":", "':' and the parameter's type")
            variable = ast.Variable(token.span, token.text)
            parameters.append(ast.Parameter(token.span, variable, self.type_name()))
            if not self._accept(","):
                break
        end = self._expect(")", "',' or ')'").span
        self._expect(":", "':' and the type that the function returns, or void")
        result = self.type_name()
        body = self._block()
        return ast.Function(start.to(end), name, parameters, result, body)

    def _map_declaration(self) -> ast.MapDeclaration:
        start = self._advance().span
        name = self._advance().text
        if self._probes_begun:
            raise self.error("maps must be declared before the first probe", start)
        self._expect("=", f"'=' and a kind of map, as in let {name} = hash(100);")
        kind = self.token
        self._name("a kind of map, such as hash or lruhash")
        self._expect("(", "'(' and the greatest number of elements")
        entries = self.expression()
        self._expect(")")
        self._expect(";")
        return ast.MapDeclaration(start.to(kind.span), name, kind.text, entries)

    def _config(self) -> dict[str, str | int]:
        self._advance()
        self._expect("=")
        self._expect("{")
        values: dict[str, str | int] = {}
        while self.token.text != "}":
            name = self._name("a setting's name")
            self._expect("=")
            token = self._advance()
            if token.kind == "integer":
                values[name.lower()] = self.integer_value(token)[0]
            elif token.kind == "string":
                values[name.lower()] = unescape(token.text).decode("utf-8", "replace")
            elif token.kind == "name":
                values[name.lower()] = token.text
            else:
                raise self.error(f"expected a value for {name}", token.span)
            if not (self._accept(";") or self._accept(",")):
                break
        self._expect("}")
        return values
