"""Large imports leave the collector of garbage as they found it."""

import gc

import pytest

from fullrank.imports import importing


@pytest.mark.parametrize("on", [True, False])
def test_garbage_is_looked_for_again_after_imports_and_none_is_kept(on):
    frozen = gc.get_freeze_count()
    try:
        (gc.enable if on else gc.disable)()
        with importing():
            assert not gc.isenabled()
        assert gc.isenabled() == on
        with pytest.raises(ImportError), importing():
            raise ImportError
        assert gc.isenabled() == on
    finally:
        gc.enable()
    assert gc.get_freeze_count() == frozen
