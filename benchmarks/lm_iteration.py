"""What one Levenberg-Marquardt iteration costs, against the plain way to write it.

    python -m benchmarks.lm_iteration [--points 1024] [--channels 128] [--threads 1] [--json FILE]

The plain way, as PixLoc has it: the map sampled five times (value, and central differences from
its four neighbours), the Jacobian n x c x 6 built, multiplied out per point, weighted and summed
("plain"). A second one weights the Jacobian and sums in one large product ("plain, one product"):
the fastest way found that still builds it. Same map, points, loss, weights, number of threads and
number type of the features. Their geometry is in float32, which is cheaper, ours in float64; ours
computes the cost, accepts or rejects, keeps the best pose and tests for the end besides. All must
give the same system. They take turns in one run, measured in processor time; each turn gives one
ratio. Exit 1 if the median ratio to "plain" is above the limit.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import grid_sample, interpolate, normalize

from benchmarks.results_file import write_section
from pixloc_core.alignment.cost import CostConfig, FeatureMetricCost
from pixloc_core.features.pyramid import FeatureLevel
from pixloc_core.geometry import Camera, Pose, sample
from pixloc_core.optim.damping import ConstantDamping
from pixloc_core.optim.levenberg_marquardt import LmConfig, optimize
from pixloc_core.optim.robust import CauchyLoss

LIMIT = 0.2
RESULTS = Path(__file__).with_name("results.md")
DAMPING = 1e-2
LOSS = CauchyLoss(0.5)
PAD = 2.0


class Problem:
    """A smooth random map and points that project into it.

    Args:
        num_points: Points n.
        channels: Channels c of the map.
        size: Width and height of the map.
    """

    def __init__(self, num_points: int, channels: int, size: tuple[int, int]) -> None:
        generator = torch.Generator().manual_seed(0)
        width, height = size
        noise = torch.randn(1, channels, height // 4, width // 4, generator=generator)
        smooth = interpolate(noise, size=(height, width), mode="bicubic", align_corners=True)
        self.maps = normalize(smooth, dim=1).contiguous()
        self.confidence = torch.rand(1, 1, height, width, generator=generator)
        params = [0.8 * width, 0.8 * width, width / 2, height / 2]
        self.camera = Camera.from_colmap(
            {"model": "PINHOLE", "width": width, "height": height, "params": params}
        )
        room = torch.tensor([width - 11.0, height - 11.0], dtype=torch.float64)
        points_px = 5 + torch.rand(num_points, 2, generator=generator).double() * room
        depth = 4 + 4 * torch.rand(num_points, 1, generator=generator).double()
        self.points = self.camera.image2world(points_px)[0] * depth
        self.level = FeatureLevel(
            self.maps[0].permute(1, 2, 0).contiguous(), self.confidence[0, 0], self.camera, 1
        )
        self.descriptors = sample(self.level.features, points_px)
        self.weights = torch.rand(num_points, generator=generator)
        offset = torch.tensor([0.02, -0.02, 0.03, 0.004, 0.003, -0.005], dtype=torch.float64)
        self.start = Pose.exp(offset)

    def cost(self) -> FeatureMetricCost:
        """The problem, as the aligner has it."""
        return FeatureMetricCost(
            self.level, self.points, self.descriptors, self.weights, LOSS, CostConfig(pad=PAD)
        )


class Plain:
    """The same problem, written down as the equations stand; all in float32.

    Args:
        problem: Map and points.
        one_product: Sum over all rows in one matrix product.
    """

    def __init__(self, problem: Problem, *, one_product: bool = False) -> None:
        self._one_product = one_product
        self._maps, self._confidence = problem.maps, problem.confidence
        self._points = problem.points.float()
        self._descriptors, self._weights = problem.descriptors, problem.weights
        camera = problem.camera.float()
        self._f, self._c, self._size = camera.f, camera.c, camera.size

    def system(self, R: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """H and g at a pose."""
        p = self._points @ R.T + t
        u, v = p[:, 0] / p[:, 2], p[:, 1] / p[:, 2]
        px = torch.stack((u, v), -1) * self._f + self._c
        valid = ((px >= PAD) & (px <= self._size - 1 - PAD)).all(-1) & (p[:, 2] > 1e-3)
        step_x, step_y = px.new_tensor([1.0, 0.0]), px.new_tensor([0.0, 1.0])
        r = self._sample(self._maps, px) - self._descriptors
        dx = (self._sample(self._maps, px + step_x) - self._sample(self._maps, px - step_x)) / 2
        dy = (self._sample(self._maps, px + step_y) - self._sample(self._maps, px - step_y)) / 2

        zero, one = torch.zeros_like(u), torch.ones_like(u)
        J_project = torch.stack((one, zero, -u, zero, one, -v), -1).view(-1, 2, 3)
        J_project = J_project / p[:, 2, None, None] * self._f[:, None]
        x, y, z = p.unbind(-1)
        minus_hat = torch.stack((zero, z, -y, -z, zero, x, y, -x, zero), -1).view(-1, 3, 3)
        eye = torch.eye(3).expand(len(p), 3, 3)
        J = torch.stack((dx, dy), -1) @ (J_project @ torch.cat((eye, minus_hat), -1))

        weight = LOSS(r.square().sum(-1))[1] * self._sample(self._confidence, px)[:, 0]
        weight = weight * self._weights * valid
        if self._one_product:
            J_weighted = (J * weight[:, None, None]).view(-1, 6)
            return J_weighted.T @ J.view(-1, 6), J_weighted.T @ r.reshape(-1)
        H = torch.einsum("nci,ncj->nij", J, J) * weight[:, None, None]
        g = torch.einsum("nci,nc->ni", J, r) * weight[:, None]
        return H.sum(0), g.sum(0)

    def _sample(self, maps: Tensor, px: Tensor) -> Tensor:
        grid = px / (self._size - 1) * 2 - 1
        return grid_sample(maps, grid[None, None], align_corners=True)[0, :, 0].T

    def run(self, start: Pose, iterations: int) -> None:
        """Levenberg-Marquardt steps, all of them taken."""
        pose = start.float()
        for _ in range(iterations):
            H, g = self.system(pose.R, pose.t)
            damped = H + torch.diag_embed((H.diagonal() * DAMPING).clamp(min=1e-6))
            factor = torch.linalg.cholesky(damped)
            pose = pose.retract(-torch.cholesky_solve(g[:, None], factor)[:, 0])


def measure(functions: Sequence[Callable[[], object]], turns: int) -> list[list[float]]:
    """Seconds of each function, turn by turn, after three turns that do not count."""
    times: list[list[float]] = [[] for _ in functions]
    for turn in range(turns + 3):
        for function, column in zip(functions, times, strict=True):
            begin = time.process_time()
            function()
            if turn >= 3:
                column.append(time.process_time() - begin)
    return times


def compare_systems(problem: Problem, plain: Plain) -> float:
    """Largest relative difference of H and g between the two."""
    equations = problem.cost().linearize(problem.start)
    start = problem.start.float()
    H, g = plain.system(start.R, start.t)
    difference_H = (equations.H - H).abs().max() / equations.H.abs().max()
    difference_g = (equations.g - g).abs().max() / equations.g.abs().max()
    return float(torch.maximum(difference_H, difference_g))


def parse() -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--size", type=int, nargs=2, default=(160, 120), metavar=("W", "H"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--turns", type=int, default=21)
    parser.add_argument("--iterations", type=int, default=10, help="per turn")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--write", action="store_true", help=f"write them to {RESULTS.name}")
    return parser.parse_args()


@torch.inference_mode()
def main() -> int:
    """Compare, print, judge."""
    args = parse()
    torch.set_num_threads(args.threads)
    problem = Problem(args.points, args.channels, tuple(args.size))
    cost, plain = problem.cost(), Plain(problem)
    one_product = Plain(problem, one_product=True)
    difference = max(compare_systems(problem, way) for way in (plain, one_product))
    # Runs all iterations, as the plain ways do; acceptance as by default.
    config = LmConfig(stopping="never")
    damping = ConstantDamping(DAMPING)
    count = args.iterations
    times = measure(
        (
            lambda: optimize(cost, problem.start, damping, config, max_iterations=count),
            lambda: plain.run(problem.start, count),
            lambda: one_product.run(problem.start, count),
        ),
        args.turns,
    )
    ours_ms, plain_ms, product_ms = (1e3 * statistics.median(column) / count for column in times)
    ratio, product_ratio = (
        statistics.median(a / b for a, b in zip(times[0], column, strict=True))
        for column in times[1:]
    )
    figures = {
        "points": args.points,
        "channels": args.channels,
        "threads": args.threads,
        "ours_ms": round(ours_ms, 3),
        "plain_ms": round(plain_ms, 3),
        "ratio": round(ratio, 3),
        "limit": LIMIT,
        "plain_one_product_ms": round(product_ms, 3),
        "ratio_to_one_product": round(product_ratio, 3),
        "relative_difference_of_systems": float(f"{difference:.1e}"),
    }
    shown = list(figures)[:-1]
    table = "\n".join(
        (
            f"| {' | '.join(name.replace('_', ' ') for name in shown)} |",
            "|---" * len(shown) + "|",
            f"| {' | '.join(str(figures[name]) for name in shown)} |",
        )
    )
    print(table)
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if args.write:
        text = f"## One LM iteration\n\n`python -m benchmarks.lm_iteration --write`\n\n{table}"
        write_section(RESULTS, "lm_iteration", text)
    if difference > 1e-3:
        print(f"the two systems differ by {difference:.1e}", file=sys.stderr)
        return 1
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
