"""Logging in with a token, and out again."""

from __future__ import annotations

import anyio.from_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from headway.console._context import Context, local_path
from headway.console._guard import wrong_token


def routes(view: Context) -> list[Route]:
    """``/login`` and ``/logout``."""

    def login(request: Request) -> Response:
        to = local_path(request.query_params.get("to", "/"))
        return view.page(request, "login.html", title="Log in", to=to, error="", name="")

    def log_in(request: Request) -> Response:
        form = view.form(request)
        to = local_path(form.get("to", "/"))
        found = view.door.log_in(form.get("token"), form.get("name"), view.now())
        if found is None:
            anyio.from_thread.run(wrong_token)
            error = "This is neither the operator token nor the reader token of this console."
            return view.page(
                request, "login.html", title="Log in", status=403, to=to, error=error, name=form.get("name")
            )
        request.scope["headway.who"] = found[0]
        response = view.redirect(request, to)
        view.set_session(request, response, found[1])
        return response

    def log_out(request: Request) -> Response:
        response = view.redirect(request, "/")
        response.delete_cookie(view.door.cookie, path="/")
        return response

    return [
        Route("/login", login, methods=["GET"]),
        Route("/login", log_in, methods=["POST"]),
        Route("/logout", log_out, methods=["POST"]),
    ]
