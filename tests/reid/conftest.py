from tests.support.fixtures import bundle, pipeline

__all__ = ["bundle", "pipeline"]
