"""Sites of dynamic debug: the control file's lines, queries, and whose a message is."""

import pytest

from insitu.commands.dyndbg import _matches, _wanted
from insitu.errors import InsituError
from insitu.kernel.dynamic_debug import Site, parse_control
from insitu.views.dyndbg import SiteMessages

# Lines of /proc/dynamic_debug/control in 6.1 and 6.12.
CONTROL = """# filename:lineno [module]function flags format
init/main.c:1179 [main]initcall_blacklist =_ "blacklisting initcall %s\\012"
lib/kobject_uevent.c:480 [kobject_uevent]kobject_uevent_env =pmf "kobject: '%s' (%p): %s\\012"
drivers/gpu/drm/i915.c:7 [i915]probe =_ "a \\"quoted\\" word\\012" class:DRM_UT_CORE
not a site
"""
SITES = parse_control(CONTROL)


def test_sites_are_read_with_their_flags_and_formats() -> None:
    assert SITES[1] == Site(
        "lib/kobject_uevent.c", 480, "kobject_uevent", "kobject_uevent_env", "pmf", "kobject: '%s' (%p): %s\n"
    )
    assert [site.format for site in SITES] == [
        "blacklisting initcall %s\n",
        "kobject: '%s' (%p): %s\n",
        'a "quoted" word\n',
    ]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], 3),
        (["module", "main"], 1),
        (["func", "*e*"], 2),
        (["file", "main.c"], 1),
        (["file", "drivers/*"], 1),
        (["line", "480"], 1),
        (["line", "-500"], 2),
        (["line", "500-"], 1),
        (["format", "kobject"], 1),
        (["module", "main", "line", "7"], 0),
    ],
)
def test_a_query_chooses_the_sites_that_the_kernel_would_take(words: list[str], wanted: int) -> None:
    assert sum(_matches(site, _wanted(words)) for site in SITES) == wanted


@pytest.mark.parametrize("words", [["module"], ["modul", "x"], ["line", "x"], ["format", 'a"b']])
def test_an_invalid_query_is_refused_before_the_kernel_sees_it(words: list[str]) -> None:
    with pytest.raises(InsituError) as raised:
        _wanted(words)
    assert raised.value.status == 2


def test_a_message_belongs_to_the_site_whose_format_it_has() -> None:
    messages = SiteMessages(SITES)
    assert messages.site_of("kobject: 'null' (00000000abc): kobject_uevent_env") == SITES[1]
    assert messages.site_of("main:initcall_blacklist:1179: blacklisting initcall foo") == SITES[0]
    assert messages.site_of("another message") is None
