from tests.support.fixtures import bundle

__all__ = ["bundle"]
