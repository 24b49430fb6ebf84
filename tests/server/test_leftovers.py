"""The fixture `nothing_is_left_behind` sees what the tests of the scheduler would lose."""

import pytest

pytest_plugins = ["pytester"]

OPTIONS = ("-p", "no:cacheprovider", "-o", "asyncio_default_fixture_loop_scope=function")
PLANTED = """
import asyncio
import pytest
from tests.server.conftest import nothing_is_left_behind

pytestmark = pytest.mark.usefixtures("nothing_is_left_behind")

def lose(in_cycle):
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    error = RuntimeError("lost")
    if in_cycle:
        error.future = future
    future.set_exception(error)

@pytest.fixture
def around():
    if {when!r} == "setup":
        lose({in_cycle})
    yield
    if {when!r} == "teardown":
        lose({in_cycle})

def test_planted(around):
    if {when!r} == "call":
        lose({in_cycle})
"""


@pytest.mark.parametrize("in_cycle", [True, False])
@pytest.mark.parametrize("when", ["setup", "call", "teardown"])
def test_a_lost_exception_fails_the_test(
    pytester: pytest.Pytester, when: str, in_cycle: bool
) -> None:
    pytester.makepyfile(PLANTED.format(when=when, in_cycle=in_cycle))
    result = pytester.runpytest_inprocess(*OPTIONS)
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["E*Left contains one more item: *exception was never retrieved*"])


def test_a_test_that_loses_nothing_passes(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(PLANTED.format(when="never", in_cycle=True))
    pytester.runpytest_inprocess(*OPTIONS).assert_outcomes(passed=1)
