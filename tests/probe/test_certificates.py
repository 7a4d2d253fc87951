"""Verdicts of units: what is proved is never contradicted, what is open is said to be open."""

import math

import pytest
import torch
from bounded_nets import Gated, Residual, shaken
from torch import Tensor, nn

import defib
from defib.core.certificate import Certificate, Method, UnitVerdict
from defib.core.domain import Box, DataRange, Ellipsoid, Everything
from defib.core.errors import UsageError

NEVER, LINEAR, FIRES = UnitVerdict.NEVER_FIRES, UnitVerdict.ALWAYS_LINEAR, UnitVerdict.FIRES
UNSEEN, DOUBT = UnitVerdict.NEVER_SEEN, UnitVerdict.UNDECIDABLE


def verdicts(certificate: Certificate, layer: int = 0) -> list[UnitVerdict]:
    return [u.verdict for u in certificate.layers[layer].units]


def one_layer(weights: list[list[float]], biases: list[float]) -> nn.Sequential:
    linear = nn.Linear(len(weights[0]), len(weights))
    with torch.no_grad():
        linear.weight.copy_(torch.tensor(weights))
        linear.bias.copy_(torch.tensor(biases))
    return nn.Sequential(linear, nn.ReLU())


def test_each_verdict_on_units_for_which_it_can_be_seen_by_eye() -> None:
    model = one_layer([[1, 1], [1, 1], [1, -1], [1, 1]], [-2.5, 0.5, 0, -1.9])
    batch = torch.tensor([[0.1, 0.2], [0.9, 0.3]])
    found = defib.certify(model, Box(low=0.0, high=1.0), batch)
    assert verdicts(found) == [NEVER, LINEAR, FIRES, UNSEEN]
    units = found.layers[0].units
    assert units[0].high == pytest.approx(-0.5, abs=1e-5)
    assert units[0].margin == pytest.approx(0.5, abs=1e-5)
    assert units[2].witness == 1
    assert units[3].rate_bound == pytest.approx(1 - 0.05**0.5)
    assert units[3].high == pytest.approx(0.1, abs=1e-5)


def test_the_solver_finds_an_input_that_fires_an_open_unit_in_the_model_itself() -> None:
    model = one_layer([[1, 1], [2, -1]], [-1.9, -1.95])
    found = defib.certify(model, "0:1", torch.zeros(3, 2), exact=2)
    for unit in found.layers[0].units:
        assert (unit.verdict, unit.method) == (FIRES, Method.MILP)
        x = torch.tensor([unit.witness_input])
        assert float(model[0](x).detach()[0, unit.unit]) > 0
        assert bool(((x >= 0) & (x <= 1)).all())


def test_the_solver_proves_what_linear_bounds_cannot() -> None:
    # relu(x) - relu(x) - 1/10: lines take the two ReLUs, in which x is the same, for independent ones.
    model = nn.Sequential(*one_layer([[1], [1]], [0, 0]), *one_layer([[1.0, -1.0]], [-0.1])).double()
    batch = torch.zeros(4, 1).double()
    bound = defib.certify(model, "-1:1", batch).layers[1].units[0]
    assert (bound.verdict, bound.method) == (UNSEEN, None)
    assert bound.high == pytest.approx(0.9)
    asked = defib.certify(model, "-1:1", batch, exact=3).layers[1].units[0]
    assert (asked.verdict, asked.method) == (NEVER, Method.MILP)
    assert asked.high == pytest.approx(-0.1, abs=1e-5)
    smooth = nn.Sequential(one_layer([[1], [1]], [0, 0])[0], nn.Tanh(), *one_layer([[1.0, -1.0]], [-0.1]))
    said = defib.certify(smooth, "-1:1", torch.zeros(4, 1), exact=3)
    assert "tanh is not a ReLU" in said.unsupported[-1].why


def test_what_only_rounding_could_fire_is_said_to_be_undecidable_in_that_format() -> None:
    w = [[1.0, -1.0, 0.5] * 7]
    low = high = torch.tensor([0.3, 0.7, 0.8] * 7)
    for dtype, verdict in ((torch.float64, NEVER), (torch.bfloat16, DOUBT)):
        model = one_layer(w, [-1e-9]).to(dtype)
        domain = Box(low=low.to(dtype).double().numpy(), high=high.to(dtype).double().numpy())
        with torch.no_grad():
            exact = float(model[0].weight.double()[0] @ low.to(dtype).double())
            model[0].bias.fill_(-exact - 1e-3)
        found = defib.certify(model, domain, torch.zeros(2, 21, dtype=dtype))
        assert verdicts(found) == [verdict], dtype


def test_proofs_for_every_input_need_no_domain() -> None:
    signs = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), *one_layer([[-1.0] * 8, [-1.0] * 8, [1.0] * 8], [0, 1, 0])
    )
    batch = torch.randn(50, 4)
    found = defib.certify(signs, Everything(), batch)
    assert verdicts(found, 1)[0] is NEVER
    assert verdicts(found, 1)[2] is LINEAR
    again = defib.certify(signs, DataRange(), batch)
    assert again.layers[1].units[0].method is Method.EVERY_INPUT
    squashed = nn.Sequential(
        nn.Linear(4, 3), nn.Sigmoid(), *one_layer([[1.0, 1, -1], [1, 1, -1]], [-2.001, -1.9])
    )
    assert verdicts(defib.certify(squashed, "any", batch), 1)[0] is NEVER
    assert verdicts(defib.certify(squashed, "any", batch), 1)[1] is not NEVER
    simplex = nn.Sequential(
        nn.Linear(4, 3), nn.Softmax(-1), *one_layer([[1.0, 2, 3], [1.0, 2, 3]], [-3.01, -2.99])
    )
    assert verdicts(defib.certify(simplex, "any", batch))[0] is NEVER
    assert verdicts(defib.certify(simplex, "any", batch))[1] is not NEVER


def test_a_vocabulary_is_bounded_by_its_own_rows() -> None:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Embedding(50, 6), nn.Linear(6, 40), nn.ReLU())
    highest = model[1](model[0].weight).amax(0)
    with torch.no_grad():
        model[1].bias -= highest + torch.linspace(-1, 1, 40)
    found = defib.certify(model, "any", torch.randint(50, (9, 3)))
    truth = model[1](model[0].weight).amax(0) <= 0
    proved = [v is NEVER for v in verdicts(found)]
    assert proved == truth.tolist()
    assert 0 < sum(proved) < 40


@pytest.mark.parametrize("seed", range(4))
def test_layer_norm_proves_what_twenty_thousand_samples_can_only_suggest(seed: int) -> None:
    torch.manual_seed(seed)
    d = 64
    model = nn.Sequential(nn.LayerNorm(d, eps=0.0), nn.Linear(d, 200), nn.ReLU())
    with torch.no_grad():
        model[0].weight.copy_(torch.rand(d) + 0.5)
        model[0].bias.copy_(torch.randn(d) * 0.1)
        model[1].bias.sub_(4.2)
    found = defib.certify(model, "any", torch.randn(2000, d), paths=False)
    layer = found.layers[0]
    dead, silent = layer.count(NEVER), layer.count(UNSEEN)
    assert dead + silent == 200  # never seen to fire ...
    assert 0 < dead < 60  # ... but few are proved: the others fire on an input nobody draws
    weight = model[1].weight * model[0].weight
    x = weight - weight.mean(1, keepdim=True)
    fires = model[1](model[0](x.double().float())).diagonal() > 1e-4
    assert not any(bool(fires[u.unit]) for u in layer.units if u.verdict is NEVER)
    assert all(bool(fires[u.unit]) for u in layer.units if u.verdict is UNSEEN and u.high > 1e-3)


def test_units_of_convolutions_are_channels_and_sit_in_the_conv_layer() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(inplace=True), nn.Flatten()
    )
    model.eval()
    with torch.no_grad():
        model[1].bias.copy_(torch.tensor([-99.0, 0.5, 99.0]))
    found = defib.certify(model, "0:1", torch.rand(5, 1, 6, 6))
    assert (found.layers[0].layer, found.layers[0].entries) == ("0", 36)
    assert verdicts(found) == [NEVER, FIRES, LINEAR]


def test_a_wholly_dead_layer_makes_the_output_constant_but_not_around_a_skip() -> None:
    dead = one_layer([[1.0, 1.0]] * 2, [-9.0, -9.0])
    plain = nn.Sequential(*dead, nn.Linear(2, 2))
    found = defib.certify(plain, "0:1", torch.rand(4, 2))
    assert found.constant_output
    assert found.collapsible == ("0",)
    assert found.paths is not None
    assert found.paths.without_path == (0, 1, 2, 3)
    assert set(found.paths.cuts) == {"0"}
    around = nn.Sequential(Residual(*dead), nn.Linear(2, 2))
    found = defib.certify(around, "0:1", torch.rand(4, 2))
    assert not found.constant_output
    assert found.paths is not None
    assert found.paths.without_path == ()


def test_a_layer_of_dead_and_linear_units_can_be_folded_away() -> None:
    found = defib.certify(one_layer([[1.0], [1.0]], [-2.0, 2.0]), "0:1", torch.rand(4, 1))
    assert found.collapsible == ("0",)
    found = defib.certify(one_layer([[1.0], [1.0]], [-2.0, -0.5]), "0:1", torch.rand(4, 1))
    assert found.collapsible == ()


def test_samples_outside_of_the_domain_are_no_witnesses() -> None:
    model = one_layer([[1.0]], [-2.0])
    found = defib.certify(model, "0:1", torch.tensor([[5.0], [0.5]]))
    assert verdicts(found) == [NEVER]
    assert found.facts["outside"] == 1
    wide = defib.certify(model, Ellipsoid(center=2.0, axes=1.0), torch.tensor([[5.0], [2.5]]))
    assert wide.layers[0].units[0].witness == 1
    none = defib.certify(model, "2.5:3", torch.tensor([[9.0]]))
    assert verdicts(none) == [LINEAR]


def test_leaky_units_are_linear_on_one_side_and_smooth_units_have_no_such_side() -> None:
    linear = one_layer([[1.0], [1.0], [1.0]], [5.0, -5.0, 0.0])[0]
    leaky = defib.certify(nn.Sequential(linear, nn.LeakyReLU()), "-1:1", torch.rand(8, 1) - 0.5)
    assert verdicts(leaky) == [LINEAR, LINEAR, FIRES]
    with torch.no_grad():
        linear.bias.copy_(torch.tensor([50.0, -50.0, 0.0]))
    smooth = defib.certify(nn.Sequential(linear, nn.GELU()), "-1:1", torch.rand(8, 1))
    assert verdicts(smooth) == [FIRES, NEVER, FIRES]
    assert not smooth.constant_output  # GELU's derivative there rounds to 0; its values are not constant


def test_no_verdict_is_contradicted_by_samples_or_by_gradient_ascent() -> None:
    from bounded_nets import Attack

    proved = 0
    for seed in range(5):
        parts = [nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU()]
        model = shaken(nn.Sequential(*parts), seed)
        for m in parts[::2]:
            m.bias.data -= 1.5
        found = defib.certify(model, "-1:1", torch.rand(64, 6) * 2 - 1)
        attack = Attack(model, torch.zeros(1, 6), Box(low=-1.0, high=1.0), batch=256)
        tops = [torch.full((20,), -math.inf) for _ in range(3)]
        for round_ in range(20):
            sent = attack.sender.send([attack.inside(round_)])
            tops = [torch.maximum(t, z.amax(0)) for t, z in zip(tops, sent.arguments, strict=True)]
        for place, layer in enumerate(found.layers):
            for unit in layer.units:
                if unit.verdict is NEVER:
                    proved += 1
                    climbed = attack.sender.send([attack.climb(place, unit.unit, seed)]).arguments[place]
                    assert max(float(tops[place][unit.unit]), float(climbed[:, unit.unit].max())) <= 0
                if unit.verdict is FIRES:
                    assert unit.high > 0
    assert proved > 30


def test_an_operation_without_bounds_is_named_and_nothing_is_proved_behind_it() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = one_layer([[1.0, 1.0]], [-99.0])[0]

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.fc(torch.sort(x, dim=-1).values))

    found = defib.certify(Odd(), "0:1", torch.rand(8, 2))
    assert verdicts(found) == [UNSEEN]
    assert found.layers[0].units[0].high == math.inf
    assert "sort" in found.unsupported[0].what


def test_random_numbers_are_no_constants() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(x + torch.randn(3) - 50)

    found = defib.certify(Noisy(), "0:1", torch.rand(8, 3))
    assert verdicts(found) == [UNSEEN] * 3
    assert "random" in found.unsupported[0].why


class Mixing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x - x.mean(0, keepdim=True))


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x) if x.sum() > 0 else x


class Fixed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x.reshape(4, -1))


@pytest.mark.parametrize(
    ("model", "line"),
    [
        (Mixing(), "samples of a batch are mixed before relu"),
        (
            nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.ReLU()),
            "Expected more than 1 value per channel",
        ),
        (
            Deciding(),
            r"nothing can be proved where code depends on the numbers \(at test_certificates.py:\d+\)",
        ),
        (Fixed(), r"the model cannot be traced: RuntimeError: .*\(at test_certificates.py:\d+\)"),
        (nn.Linear(5, 2), "the model cannot be traced: "),
        (nn.LazyLinear(2), "the model has lazy parameters; call it once on a batch first"),
    ],
)
def test_what_nothing_can_be_proved_of_is_one_clear_line(model: nn.Module, line: str) -> None:
    with pytest.raises(UsageError, match=line) as told:
        defib.certify(model, "0:1", torch.rand(6, 3))
    assert "\n" not in str(told.value)


def test_a_batch_norm_that_takes_the_batchs_own_statistics_mixes_samples_and_an_instance_norm_does_not() -> (
    None
):
    batch = torch.rand(6, 2, 4, 4)
    with pytest.raises(UsageError, match="samples of a batch are mixed before relu"):
        defib.certify(nn.Sequential(nn.BatchNorm2d(2, track_running_stats=False), nn.ReLU()), "0:1", batch)
    own = defib.certify(nn.Sequential(nn.InstanceNorm2d(2), nn.ReLU()), "0:1", batch)
    assert verdicts(own) == [FIRES, FIRES]


@pytest.mark.parametrize(
    ("domain", "line"),
    [
        ("2:1", "the box is empty: low 2 > high 1"),
        ("0:x", "a domain is written as data, "),
        ("a:b:c", "a domain is written as data, "),
        ("data+x", "a margin is written as data"),
        ("ball:0:-1", "the ellipsoid has a negative radius"),
        (
            Box(low=[0.0] * 7, high=1.0),
            r"the domain's low of shape \(7,\) does not fit a sample of shape \(3,\)",
        ),
        (Box(low=math.nan, high=1.0), "the box has an end that is no number"),
        (Ellipsoid(center=math.inf, axes=1.0), "center and axes are to be finite"),
        (DataRange(margin=-1.0), "a margin is a number from 0 on, not -1.0"),
        (7, "a domain is a Box, an Ellipsoid, or text like '0:1', not a int"),
    ],
)
def test_a_bad_domain_is_one_clear_line(domain: object, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        defib.certify(nn.Sequential(nn.Linear(3, 2), nn.ReLU()), domain, torch.rand(6, 3))  # type: ignore[arg-type]


def test_when_the_time_is_over_intervals_have_to_do_and_it_is_said() -> None:
    model = shaken(nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 9), nn.ReLU()), 0)
    found = defib.certify(model, "0:1", torch.rand(6, 6), seconds=0.0)
    assert "the time was over" in found.unsupported[0].why
    assert not found.layers[1].refined
    assert defib.certify(model, "0:1", torch.rand(6, 6)).layers[1].refined


def test_several_inputs_and_odd_models_are_taken_as_they_are() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.gate = nn.Linear(3, 4), nn.Linear(2, 4), Gated(4)

        def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
            return {"out": torch.relu(self.gate(self.a(x) + self.b(y)))}

    found = defib.certify(shaken(Two(), 0), "data+5%", {"x": torch.rand(6, 3), "y": torch.rand(6, 2)})
    assert [len(layer.units) for layer in found.layers] == [4, 4]  # a sigmoid, and the ReLU
    assert all(math.isfinite(u.high) for layer in found.layers for u in layer.units)
