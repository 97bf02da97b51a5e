"""Fill a sheet, pull it to the prediction, extend it: as far as anything speaks for it."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tracer.progress import Progress
from tracer.unroll.confirm import DEEPEST, Witness, drop_unconfirmed, proven_reach
from tracer.unroll.data_pass import PredictionVolume, pull_to_prediction
from tracer.unroll.inpaint import DATA, FILLED, inpaint
from tracer.unroll.params import UnrollParams
from tracer.unroll.sheet import Sheet, is_torn, used_box

_MOST_EXTENSIONS = 25  # rounds beyond the rim; each adds `extend` voxels where the sheet is found
_CONTINUED = 0.3  # confidence of nodes half a step beyond a patch
_WORTH_EXTENDING = 0.001  # share of the nodes that a round must add

Completed = tuple[Sheet, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Completion:
    """How a resampled sheet is completed.

    Attributes
    ----------
    params : UnrollParams
        Parameters.
    reach : float
        How far a node may move to the prediction, voxels.
    prediction : PredictionVolume or None
        Surface prediction.
    """

    params: UnrollParams
    reach: float
    prediction: PredictionVolume | None

    @property
    def margin(self) -> int:
        """Return the nodes that are added beyond the rim at a time.

        Returns
        -------
        int
            0 for none.
        """
        return int(np.ceil(self.params.extend / self.params.step))

    def __call__(self, sheet: Sheet, filled: Progress) -> Completed:
        """Return a sheet with holes filled and ends extended, and the state of its nodes.

        Parameters
        ----------
        sheet : Sheet
            Its surface as resampled.
        filled : Progress
            Called once holes are filled.

        Returns
        -------
        sheet : Sheet
            Data, and what could be confirmed or was proven to be guessed rightly.
        state : ndarray of uint8, shape (rows, cols)
            100 on data, 80 filled, 0 none.
        """
        return self._continued(*self._completed(sheet, filled))

    def _completed(self, sheet: Sheet, filled: Progress) -> Completed:
        """Return a sheet with all guesses that were confirmed or proven."""
        prediction = self.prediction
        widest = int(self.params.max_hole / self.params.step)
        is_data = sheet.valid
        margin = self.margin if prediction is None else 0
        whole, state = inpaint(sheet, widest=widest, margin=margin)
        filled(1, 1, "holes")
        if prediction is None:
            witness = Witness.of(sheet, is_data)
            proven = proven_reach(sheet, is_data, witness, self._guessed)
            return drop_unconfirmed(whole, state, witness, proven)
        whole, state = self._pulled(whole, state, prediction)
        witness = Witness.of(whole, state == DATA)
        proven = 0.0
        if self.margin > 0:
            proven = proven_reach(whole, state == DATA, witness, self._guessed)
        whole, state = drop_unconfirmed(whole, state, witness, proven)
        for _ in range(_MOST_EXTENSIONS if self.margin > 0 else 0):
            whole, state = whole.padded(self.margin), np.pad(state, self.margin)
            before = whole.valid
            whole, state = self._beyond(whole, state, prediction)
            whole, state = drop_unconfirmed(whole, state, witness, proven)
            box = used_box(whole.valid)
            fresh = (whole.valid & ~before)[box]
            whole, state = whole.cropped(box), state[box]
            if fresh.sum() < _WORTH_EXTENDING * before.sum():
                break
        return whole, state

    def _continued(self, sheet: Sheet, state: NDArray[np.uint8]) -> Completed:
        """Return the sheet with nodes less than half a step beyond a patch, where that fits."""
        if sheet.beyond is None:
            return sheet, state
        fresh = ~sheet.valid & np.isfinite(sheet.beyond[..., 0])
        points = np.where(fresh[..., None], sheet.beyond[..., :3], sheet.points_xyz)
        fresh &= ~is_torn(points, sheet.step)
        further = dataclasses.replace(
            sheet,
            points_xyz=np.where(fresh[..., None], points, sheet.points_xyz),
            winding=np.where(fresh, sheet.beyond[..., 3], sheet.winding),
            confidence=np.where(fresh, _CONTINUED, sheet.confidence).astype(np.float32),
        )
        state = np.where(fresh, FILLED, state).astype(np.uint8)
        if self.prediction is None:
            return further, state
        return self._pulled(further, state, self.prediction, fresh)

    def _pulled(
        self,
        sheet: Sheet,
        state: NDArray[np.uint8],
        prediction: PredictionVolume,
        fresh: NDArray[np.bool_] | None = None,
    ) -> Completed:
        return pull_to_prediction(
            sheet,
            state,
            prediction,
            threshold=self.params.threshold,
            reach=self.reach,
            extrapolated=fresh,
        )

    def _beyond(
        self, sheet: Sheet, state: NDArray[np.uint8], prediction: PredictionVolume
    ) -> Completed:
        """Return the sheet one step further, where the prediction has something."""
        further, _ = inpaint(sheet, widest=0, margin=self.margin)
        fresh = further.valid & (state == 0)
        state = np.where(fresh, FILLED, state).astype(np.uint8)
        return self._pulled(further, state, prediction, fresh)

    def _guessed(self, part: Sheet) -> Sheet:
        """Return a part of a sheet with what would be guessed beyond its rim."""
        if self.prediction is None:
            return inpaint(part, widest=0, margin=DEEPEST)[0]
        state = np.where(part.valid, DATA, 0).astype(np.uint8)
        for _ in range(DEEPEST):
            part, state = self._beyond(part, state, self.prediction)
        return part
