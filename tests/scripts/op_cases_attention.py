"""Cases of what the gradient of attention needs: logarithms of sums, and the gradient itself.

Takes: the collection of cases.
Gives: it filled with small random cases; gradients are torch's own.
Never: draws from anything but the collection.
"""

import torch

from op_cases import DTYPES, FLOATS, flag, number, rounded


def scores(q, k, mask, scale, causal):
    found = q @ k.mT * scale
    if mask is not None and mask.dtype == torch.bool:
        found = found.masked_fill(~mask, -torch.inf)
    elif mask is not None:
        found = found + mask
    if causal:
        allowed = torch.ones(found.shape[-2:], dtype=torch.bool).tril()
        found = found.masked_fill(~allowed, -torch.inf)
    return found


def attention(q, k, v, mask, scale, causal):
    """A query without keys gives 0, so that nothing of it is not a number."""
    found = scores(q, k, mask, scale, causal)
    blind = (found == -torch.inf).all(-1, keepdim=True)
    return found.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0) @ v


def stacked(gradients, columns):
    wide = [torch.nn.functional.pad(x, (0, columns - x.shape[-1])) for x in gradients]
    return torch.cat(wide, 2)


def case(cases, note, q, keys, e=None, kind="f32", mask=None, causal=False, hidden=False):
    """`mask` is a kind of element and a shape; `hidden` hides all keys of the second query."""
    batch, heads, queries, d = q
    e, scale = d if e is None else e, d**-0.5
    shapes = (q, (batch, heads, keys, d), (batch, heads, keys, e), (batch, heads, queries, e))
    op = "attention_gradient"
    q, k, v, dr = cases.draw(op, kind, *shapes)
    masks = cases.draw(op, *mask) if mask else []
    if masks and mask[0] == "bool":
        masks[0][..., 0] = True
        masks[0][..., 1, :] &= not hidden
    attributes = {"scale": number(scale), "causal": flag(causal)}

    def log_sum(q, k, mask=None):
        return scores(q, k, mask, scale, causal).logsumexp(-1)

    wide = "f64" if kind == "f64" else "f32"
    cases.add("attention_log_sum", note, log_sum, q, k, *masks, result=wide, **attributes)

    exact = [x.double() if x.is_floating_point() else x for x in (q, k, v, *masks)]
    mask = exact[3] if masks else None
    sums = log_sum(*exact[:2], mask).to(DTYPES[wide])
    r = rounded(attention(*exact[:3], mask, scale, causal), DTYPES[kind])

    def gradient(q, k, v, sums, r, dr, mask=None):
        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        attention(*leaves, mask, scale, causal).backward(dr)
        return stacked([x.grad for x in leaves], max(d, e))

    cases.add(op, note, gradient, q, k, v, sums, r, dr, *masks, **attributes)


def attention_gradients(cases):
    case(cases, "self", (2, 3, 5, 4), 5)
    case(cases, "cross, wider values", (1, 2, 6, 4), 3, e=7)
    case(cases, "cross, narrower values", (1, 2, 3, 4), 6, e=2)
    case(cases, "causal", (1, 2, 5, 4), 5, causal=True)
    case(cases, "causal, more queries", (1, 2, 6, 4), 3, causal=True)
    case(cases, "truth mask", (2, 2, 3, 4), 5, mask=("bool", (2, 1, 3, 5)))
    case(cases, "float mask", (2, 2, 3, 4), 5, mask=("f32", (1, 2, 3, 5)))
    case(cases, "fully masked query", (1, 2, 3, 4), 5, mask=("bool", (3, 5)), hidden=True)
    case(cases, "one token", (1, 1, 1, 1), 1)
    case(cases, "no images", (0, 2, 3, 4), 3)
    case(cases, "many tokens", (1, 1, 40, 8), 33)
    for kind in FLOATS[1:]:
        case(cases, kind, (1, 2, 5, 8), 5, kind=kind)
