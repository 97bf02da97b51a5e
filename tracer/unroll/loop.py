"""Unroll, grow patches into the holes, unroll again, until coverage no longer grows."""

from dataclasses import dataclass
from pathlib import Path

from tracer.errors import NothingFoundError
from tracer.expand import ExpandLimits, expand
from tracer.progress import Progress, silent
from tracer.seed_params import SeedParams
from tracer.unroll.axis import Axis
from tracer.unroll.feedback import find_holes
from tracer.unroll.params import UnrollParams
from tracer.unroll.patches import patch_directories
from tracer.unroll.slabs import unroll_collection
from tracer.unroll.stage import UnrollResult
from tracer.volume import Volume

_WORTH_GOING_ON = 0.005  # of the nodes on patches that a round must add


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopRound:
    """One unrolling of the loop, and what was grown before it.

    Attributes
    ----------
    grown : int
        New patches; 0 before the first unrolling.
    patches : int
        Patches in all.
    nodes_data : int
        Nodes of the surface that lie on patches.
    nodes_filled : int
        Nodes that were filled in.
    holes : int
        Places where patches are missing.
    """

    grown: int
    patches: int
    nodes_data: int
    nodes_filled: int
    holes: int

    @property
    def coverage(self) -> float:
        """Return the share of the surface that lies on patches.

        Returns
        -------
        float
            0 to 1.
        """
        return self.nodes_data / max(self.nodes_data + self.nodes_filled, 1)

    def summary(self) -> str:
        """Return one line about the round.

        Returns
        -------
        str
            Patches, coverage and holes.
        """
        return (
            f"{self.grown} patches grown, {self.patches} in all: {self.nodes_data} nodes on "
            f"patches, {self.coverage:.3f} of the surface, {self.holes} holes"
        )


def unroll_and_grow(
    paths: Path,
    volume: Volume,
    params: UnrollParams,
    seed_params: SeedParams,
    *,
    rounds: int,
    axis: Axis | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> tuple[UnrollResult, tuple[LoopRound, ...]]:
    """Return the last unrolling of a loop of unrolling and growing into its holes.

    Parameters
    ----------
    paths : Path
        Collection; patches are added to it.
    volume : Volume
        Surface prediction.
    params : UnrollParams
        Parameters of the unrolling.
    seed_params : SeedParams
        Parameters of the growth. Patches for holes are small: so must be ``min_area_cm``.
    rounds : int
        Most times to grow.
    axis : Axis, optional
        The scroll's axis.
    workers : int
        Processes that grow.
    progress : Progress
        Called after each step of each unrolling.

    Returns
    -------
    result : UnrollResult
        The last unrolling.
    rounds : tuple of LoopRound
        One per unrolling. The loop ends early where nothing is missing, nothing acceptable can be
        grown, or a round added less than half a percent.

    Raises
    ------
    CollectionError
        If there is nothing to unroll.
    """
    done: list[LoopRound] = []
    grown = 0
    while True:
        result = unroll_collection(
            patch_directories(paths), params, axis=axis, prediction=volume, progress=progress
        )
        holes, count = find_holes(result), result.counts()
        done.append(
            LoopRound(
                grown=grown,
                patches=int(count["patches"] or 0),
                nodes_data=int(count["nodes_data"] or 0),
                nodes_filled=int(count["nodes_filled"] or 0),
                holes=len(holes),
            )
        )
        gained = done[-1].nodes_data - (done[-2].nodes_data if len(done) > 1 else 0)
        stalled = len(done) > 1 and gained < _WORTH_GOING_ON * done[-1].nodes_data
        if stalled or not holes or len(done) > rounds:
            return result, tuple(done)
        try:
            expanded = expand(
                volume,
                paths,
                seed_params,
                ExpandLimits(count=len(holes)),
                into=[hole.xyz for hole in holes],
                workers=workers,
            )
        except NothingFoundError:
            return result, tuple(done)
        grown = len(expanded.names)
