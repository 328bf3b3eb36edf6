"""Text to syntax tree: definitions of structs, unions, enums and typedefs, as C has them."""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.bpftrace.attributes import AttributeParser
from insitu.probe.source import Span

__all__ = ["DEFINITIONS", "DefinitionParser"]

_TAGS = ("struct", "union", "enum")
DEFINITIONS = (*_TAGS, "typedef")


class DefinitionParser(AttributeParser):
    """Reads definitions of types; their names are noted in ``type_names``.

    Definitions inside of others that have a tag are in ``extra_structures``. ``ended``: a semicolon followed.
    """

    ended = True

    def definition(self) -> list[ast.Structure]:
        """What is defined at the current token, which is one of DEFINITIONS; nothing by ``struct name;``."""
        if self.token.text == "typedef":
            found = self._typedef()
        elif not self._has_body() and self._peek(2).text == ";":
            self._advance()
            self._name("a name")
            found = []
        else:
            found = [self._structure()]
        self.ended = self._accept(";")
        return found

    def _typedef(self) -> list[ast.Structure]:
        start = self._advance().span
        found: list[ast.Structure] = []
        body: ast.Structure | None = None
        if self.token.text in _TAGS and self._has_body():
            body = self._structure()
            following = self._peek()
            is_plain = following.text in (";", ",") or self.is_attribute(following)
            if not body.name and self.token.kind == "name" and is_plain:
                body.name = self.token.text  # typedef struct { ... } name;
            base = self._reference(body)
        else:
            base = self.type_name(pointers=False)
        while True:
            name, alias = self._declarator(base, "the typedef's name")
            if body is not None:
                self.attributes(body)
            self.type_names.add(name)
            if (alias.name, alias.pointers, alias.array) != (name, 0, ()) or alias.tag not in _TAGS:
                found.append(ast.Structure(start, "typedef", name, alias=alias))
            if not self._accept(","):
                return found

    def _has_body(self) -> bool:
        following = self._peek()
        if self.is_attribute(following):
            return True
        return following.text == "{" or (following.kind == "name" and self._peek(2).text == "{")

    def _structure(self) -> ast.Structure:
        start = self.token.span
        with self.nested():
            structure = ast.Structure(start, self._advance().text, "")
            self.attributes(structure)
            if self.token.kind == "name":
                structure.name = self._advance().text
            self._expect("{")
            if structure.tag == "enum":
                self._enumerators(structure)
            else:
                while self.token.text != "}":
                    self._fields(structure)
            structure.span = start.to(self._expect("}").span)
            self.attributes(structure)
        return structure

    def _enumerators(self, structure: ast.Structure) -> None:
        value = 0
        while self.token.text != "}":
            start = self.token.span
            name = self._name("an enumerator")
            if self._accept("="):
                value = self.constant(self.expression())
            if not -(1 << 63) <= value < 1 << 64:
                raise self.error(f"{name} is {value}, which 64 bits do not hold", start)
            structure.values.append((name, value))
            self.enumerators[name] = value
            value += 1
            if not self._accept(","):
                break

    def _fields(self, structure: ast.Structure) -> None:
        start = self.token.span
        common = ast.StructureField(start, "", ast.TypeName(start, ""))
        self.attributes(common)
        base: ast.TypeName | ast.Structure
        if self.token.text in _TAGS and self._has_body():
            base = self._structure()
            if self.token.text in (";", "}"):
                self._accept(";")
                if base.name:  # in C, this declares the type alone
                    self.extra_structures.append(base)
                else:
                    structure.fields.append(
                        ast.StructureField(start, "", base, packed=common.packed, aligned=common.aligned)
                    )
                return
            if base.name or self.token.kind != "name" or self._peek().text not in (";", "}"):
                base = self._reference(base)
        else:
            base = self.type_name(pointers=False)
            self.attributes(common)
        while True:
            structure.fields.append(self._field(start, base, common))
            if not self._accept(","):
                break
        if self.token.text != "}":  # after the last member it may be missing
            self._expect(";")

    def _field(
        self, start: Span, base: ast.TypeName | ast.Structure, common: ast.StructureField
    ) -> ast.StructureField:
        """One member; ``common`` has the attributes of all that are declared with it."""
        declared: ast.TypeName | ast.Structure
        if self.token.text == ":":  # a bit field without a name
            name, declared = "", base
        elif isinstance(base, ast.TypeName):
            name, declared = self._declarator(base, "a field's name")
        else:
            name, declared = self._name("a field's name"), base
        field = ast.StructureField(start, name, declared, packed=common.packed, aligned=common.aligned)
        if self._accept(":"):
            field.bits, field.is_bit_field = self.constant(self.expression()), True
            if not 0 <= field.bits <= 64 or (name and not field.bits):
                raise self.error(f"a bit field of {field.bits} bits", start)
        self.attributes(field)
        return field

    def _reference(self, body: ast.Structure) -> ast.TypeName:
        """A name for a type that is defined where it is used."""
        body.name = body.name or f"(anonymous at {body.span.start})"
        self.extra_structures.append(body)
        return ast.TypeName(body.span, body.name, body.tag)

    def _declarator(self, base: ast.TypeName, what: str) -> tuple[str, ast.TypeName]:
        """``*name[3]`` or ``(*name)(...)`` after a type: the name, and its whole type."""
        pointers = self._stars()
        if self.token.text != "(":
            name = self._name(what)
            array = self._array_suffix() + base.array
            return name, ast.TypeName(base.span, base.name, base.tag, base.pointers + pointers, array, base.of)
        # A pointer to a function or to an array: where it leads is not known here.
        self._advance()
        if not self._stars():
            raise self.unexpected("'*'")
        name = self._name(what)
        array = self._array_suffix()
        self._expect(")")
        if self.token.text == "(":
            self._parameters()
        else:
            self._array_suffix()
        return name, ast.TypeName(base.span, "void", pointers=1, array=array)

    def _parameters(self) -> None:
        self._expect("(")
        depth = 1
        while depth and self.token.kind != "end":
            depth += {"(": 1, ")": -1}.get(self._advance().text, 0)
