"""Matrix products and what else is linear algebra."""

import numpy as np
from onnx.reference.op_run import OpRun

from onnxviz._reference.arrays import Array


class LinearAttention(OpRun):
    """onnx's own computes in float32."""

    def _run(
        self,
        q: Array,
        k: Array,
        v: Array,
        past: Array | None = None,
        decay: Array | None = None,
        beta: Array | None = None,
        chunk_size: int = 64,  # noqa: ARG002
        kv_num_heads: int = 1,
        q_num_heads: int = 1,
        scale: float = 0.0,
        update_rule: str = "",  # noqa: ARG002
    ) -> tuple[Array, Array]:
        batch, length, _ = q.shape
        q, k, v = (x.reshape(batch, length, kv_num_heads, -1) for x in (q, k, v))
        q = q.reshape(batch, length, q_num_heads, -1)
        group, size = q_num_heads // kv_num_heads, k.shape[-1]
        state = np.zeros((batch, kv_num_heads, size, v.shape[-1]), q.dtype) if past is None else past
        rows = []
        for t in range(length):
            written = v[:, t]
            if decay is not None:
                state = state * np.exp(decay[:, t].reshape(batch, kv_num_heads, -1, 1))
            if beta is not None:
                seen = np.einsum("bhd,bhdm->bhm", k[:, t], state)
                written = beta[:, t].reshape(batch, -1, 1) * (written - seen)
            state = state + k[:, t, :, :, None] * written[:, :, None]
            rows.append(np.einsum("bhd,bhdm->bhm", q[:, t], state.repeat(group, axis=1)))
        y = np.stack(rows, axis=1).reshape(batch, length, -1) * (scale or size**-0.5)
        return y.astype(q.dtype), state


OPERATORS: tuple[type[OpRun], ...] = (LinearAttention,)
