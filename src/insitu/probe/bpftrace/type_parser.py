"""Text to syntax tree: definitions of structs, unions, enums and typedefs, as C has them."""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.bpftrace.attributes import AttributeParser
from insitu.probe.source import Span

__all__ = ["DEFINITIONS", "DefinitionParser"]

DEFINITIONS = ("struct", "union", "enum", "typedef")


class DefinitionParser(AttributeParser):
    """Reads definitions of types; their names are noted in ``type_names``."""

    def definition(self) -> ast.Structure:
        """The definition at the current token, which is one of DEFINITIONS."""
        start = self.token.span
        if self.token.text == "typedef":
            self._advance()
            if self.token.text in ("struct", "union", "enum") and self._has_body():
                body = self._structure()
                name = self._name("the typedef's name")
                self.attributes(body)
                self._accept(";")
                self.type_names.add(name)
                body.name = body.name or name
                if body.name != name:
                    self.extra_structures.append(body)
                    return ast.Structure(start, "typedef", name, alias=ast.TypeName(start, body.name, body.tag))
                return body
            alias = self.type_name()
            name = self._name("the typedef's name")
            alias.array += self._array_suffix()
            self._expect(";")
            self.type_names.add(name)
            return ast.Structure(start, "typedef", name, alias=alias)
        structure = self._structure()
        self._accept(";")
        return structure

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
            name = self._name("an enumerator")
            if self._accept("="):
                value = self.constant(self.expression())
            structure.values.append((name, value))
            value += 1
            if not self._accept(","):
                break

    def _fields(self, structure: ast.Structure) -> None:
        start = self.token.span
        common = ast.StructureField(start, "", ast.TypeName(start, ""))
        self.attributes(common)
        base: ast.TypeName | ast.Structure
        if self.token.text in ("struct", "union", "enum") and self._has_body():
            base = self._structure()
            if self._accept(";"):
                structure.fields.append(ast.StructureField(start, "", base))
                return
        else:
            base = self.type_name(pointers=False)
            self.attributes(common)
        while True:
            pointers = 0
            while self._accept("*"):
                pointers += 1
                self._accept("const")
            if self.token.text == "(":
                structure.fields.append(self._function_pointer(start))
            else:
                name = self._name("a field's name")
                array = self._array_suffix()
                bits = self.constant(self.expression()) if self._accept(":") else 0
                declared: ast.TypeName | ast.Structure = base
                if isinstance(base, ast.TypeName):
                    declared = ast.TypeName(base.span, base.name, base.tag, pointers, array)
                elif pointers or array:
                    raise self.error("define the inner structure separately, then declare a pointer to it", start)
                field = ast.StructureField(start, name, declared, bits, common.packed, common.aligned)
                self.attributes(field)
                structure.fields.append(field)
            if not self._accept(","):
                break
        self._expect(";")

    def _function_pointer(self, start: Span) -> ast.StructureField:
        self._expect("(")
        self._expect("*")
        name = self._name("a field's name")
        self._expect(")")
        self._expect("(")
        depth = 1
        while depth and self.token.kind != "end":
            depth += {"(": 1, ")": -1}.get(self._advance().text, 0)
        return ast.StructureField(start, name, ast.TypeName(start, "void", pointers=1))
