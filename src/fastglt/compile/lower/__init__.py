"""Models as programs: what each kind of module computes in evaluation.

To teach a further kind of module, write a function that emits its operations and enter it in the
table of :mod:`~fastglt.compile.lower.rows`, :mod:`~fastglt.compile.lower.convs` or
:mod:`~fastglt.compile.lower.models`.
"""

from fastglt.compile.lower.base import Unsupported as Unsupported
from fastglt.compile.lower.whole import lower as lower
