"""Statements to syntax tree: blocks, if, loops, declarations and assignments."""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.bpftrace.type_parser import DefinitionParser

__all__ = ["StatementParser"]

_ASSIGNMENTS = {"=": "", "+=": "+", "-=": "-", "*=": "*", "/=": "/", "%=": "%"} | {
    "&=": "&",
    "|=": "|",
    "^=": "^",
    "<<=": "<<",
    ">>=": ">>",
}


class StatementParser(DefinitionParser):
    """What the parser of scripts is built on."""

    def _block(self) -> ast.Block:
        start = self._expect("{").span
        with self.nested():
            statements: list[ast.Statement] = []
            while self.token.text != "}":
                if self.token.kind == "end":
                    raise self.unexpected("'}'")
                if self._accept(";"):
                    continue
                statements.append(self.statement())
            return ast.Block(start.to(self._expect("}").span), statements)

    def statement(self) -> ast.Statement:
        start = self.token.span
        word = self.token.text if self.token.kind in ("name", "operator") else ""
        if word == "{":
            return self._block()
        if word == "if":
            return self._if()
        if word == "while":
            self._advance()
            condition = self._parenthesised()
            body = self._block()
            return ast.While(start.to(body.span), condition, body)
        if word == "unroll":
            self._advance()
            count = self._parenthesised()
            body = self._block()
            return ast.Unroll(start.to(body.span), count, body)
        if word == "for":
            return self._for()
        if word == "with" and self._peek().text == "(":
            return self._with()
        if word in ("break", "continue", "return"):
            self._advance()
            value = None
            if word == "return" and self.token.text not in (";", "}"):
                value = self.expression()
            self.end_of_statement()
            return ast.Jump(start, word, value)
        if word == "let":
            return self._let()
        return self._expression_statement()

    def _if(self) -> ast.If:
        start = self._advance().span
        with self.nested():
            condition = self.expression()
            then = self._block()
            otherwise = None
            if self.token.text == "else":
                self._advance()
                if self.token.text == "if":
                    inner = self._if()
                    otherwise = ast.Block(inner.span, [inner])
                else:
                    otherwise = self._block()
            return ast.If(start.to((otherwise or then).span), condition, then, otherwise)

    def _for(self) -> ast.For:
        start = self._advance().span
        parenthesised = self._accept("(")
        if self.token.kind != "variable":
            raise self.unexpected("a variable, as in: for ($kv : @map) or for ($i : 0..10)")
        token = self._advance()
        variable = ast.Variable(token.span, token.text)
        self._expect(":")
        iterable = self.expression(ranges=True)
        if parenthesised:
            self._expect(")")
        if not isinstance(iterable, ast.MapAccess | ast.Range) or (
            isinstance(iterable, ast.MapAccess) and iterable.key is not None
        ):
            raise self.error("for iterates over a map or a range such as 0..10", iterable.span)
        body = self._block()
        return ast.For(start.to(body.span), variable, iterable, body)

    def _with(self) -> ast.With:
        start = self._advance().span
        with self.nested():
            self._expect("(")
            if self.token.kind != "variable":
                raise self.unexpected("a variable, as in: with ($x : @map[key])")
            token = self._advance()
            self._expect(":")
            element = self.expression()
            self._expect(")")
            if not isinstance(element, ast.MapAccess) or element.key is None:
                raise self.error("with takes an element of a map, such as @map[key]", element.span)
            body = self._block()
            otherwise = self._block() if self._accept("else") else None
            whole = start.to((otherwise or body).span)
            return ast.With(whole, ast.Variable(token.span, token.text), element, body, otherwise)

    def _let(self) -> ast.Let:
        start = self._advance().span
        if self.token.kind != "variable":
            raise self.unexpected("a variable after let")
        token = self._advance()
        declared = self.type_name() if self._accept(":") else None
        value = self.expression() if self._accept("=") else None
        self.end_of_statement()
        return ast.Let(start.to(token.span), ast.Variable(token.span, token.text), declared, value)

    def _expression_statement(self) -> ast.Statement:
        if self.token.text == "_" and self._peek().text == "=":
            return self._discarded()
        target = self.expression()
        if self.token.text in _ASSIGNMENTS and self.token.kind == "operator":
            of_element = isinstance(target, ast.Member) and isinstance(target.object, ast.Variable)
            if not isinstance(target, ast.Variable | ast.MapAccess) and not of_element:
                raise self.error("only $variables and @maps can be assigned to", target.span)
            operator = _ASSIGNMENTS[self._advance().text]
            value = self.expression()
            self.end_of_statement()
            return ast.Assign(target.span.to(value.span), target, operator, value)
        bare = self.token.text == "}"
        if isinstance(target, ast.BlockExpression) or (
            isinstance(target, ast.Call) and target.name in self.macro_names
        ):
            self._accept(";")
        else:
            self.end_of_statement()
        return ast.ExpressionStatement(target.span, target, bare)

    def _discarded(self) -> ast.Statement:
        """``_ = value``: the value is not used."""
        start = self._advance().span
        self._expect("=")
        value = self.expression()
        self.end_of_statement()
        return ast.ExpressionStatement(start.to(value.span), value)

    def _parenthesised(self) -> ast.Expression:
        return self.expression()
