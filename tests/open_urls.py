"""The routes of a Django site that anybody may call."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path


def home(_: HttpRequest) -> HttpResponse:
    """For everybody."""
    return HttpResponse("for everybody")


urlpatterns = [path("", home)]
