"""How many threads the libraries below NumPy and SciPy compute with."""

from contextlib import AbstractContextManager


def one_thread() -> AbstractContextManager[object]:
    """Within it, one: sums over several threads have other roundings than over one, and depend on how many cores there
    are. And products as small as a classifier's on features wait for threads more than they gain."""
    # Limits reach what is loaded. SciPy brings a BLAS of its own.
    import sklearn.linear_model  # noqa: F401
    from threadpoolctl import threadpool_limits

    limited: AbstractContextManager[object] = threadpool_limits(1)
    return limited
