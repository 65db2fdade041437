"""What Triton says about the requests it has served: how many, and where their time went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Statistics:
    """Sums over all requests of a model since its server started; seconds.

    Attributes
    ----------
    requests, failures : answered, and answered with an error
    executions : inferences; fewer than requests where Triton made batches
    queue_s : waiting for the model
    input_s, infer_s, output_s : Triton's copying in, the model itself, copying out
    busy_s : during which an execution was under way; of a batch counted once
    """

    requests: int
    failures: int
    executions: int
    queue_s: float
    input_s: float
    infer_s: float
    output_s: float
    busy_s: float

    def since(self, earlier: Statistics) -> Statistics:
        """What came after an earlier reading."""
        return Statistics(*(now - then for now, then in zip(_values(self), _values(earlier), strict=True)))


def _values(statistics: Statistics) -> tuple[Any, ...]:
    return tuple(vars(statistics).values())


def read_statistics(answer: Any) -> Statistics:
    """Sum up a ModelStatisticsResponse."""
    nanoseconds = 1e-9
    models = answer.model_stats

    def seconds(name: str) -> float:
        return float(sum(getattr(model.inference_stats, name).ns for model in models)) * nanoseconds

    return Statistics(
        requests=sum(model.inference_stats.success.count for model in models),
        failures=sum(model.inference_stats.fail.count for model in models),
        executions=sum(model.execution_count for model in models),
        queue_s=seconds("queue"),
        input_s=seconds("compute_input"),
        infer_s=seconds("compute_infer"),
        output_s=seconds("compute_output"),
        busy_s=nanoseconds
        * sum(
            batch.compute_input.ns + batch.compute_infer.ns + batch.compute_output.ns
            for model in models
            for batch in model.batch_stats
        ),
    )
