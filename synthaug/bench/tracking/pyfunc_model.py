"""Models in MLflow name the module that loads them: those logged earlier name this one."""

from synthaug.tracking.pyfunc_model import _load_pyfunc

__all__ = ["_load_pyfunc"]
