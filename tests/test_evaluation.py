import numpy as np
import pytest
import scipy.linalg
import torch
from diffusers import ImagePipelineOutput

from course_utils import data
from course_utils.classifier import (
    PLANS,
    Classifier,
    TrainingPlan,
    accuracy,
    augment,
    load_classifier,
    packed,
    train_judge,
    unpacked,
)
from course_utils.data import ImageDataset, load_dataset, load_sample, scale_to_model
from course_utils.evaluation import (
    check_for_copies,
    evaluate,
    evaluate_by,
    excess_distance,
    frechet_distance,
    loss_by_timestep,
    noise_error,
    score_pictures,
    summarize,
)
from course_utils.pipeline import ClassConditionedPipeline
from course_utils.recipes import resized
from course_utils.sampling import make_scheduler


class Painter:
    """Stands in for a pipeline: draws pictures of its own choice from a data set, whatever it is asked for."""

    def __init__(self, pipe, dataset, label_shown, class_names=tuple("0123456789")):
        self.config, self.unet, self.dataset = pipe.config, pipe.unet, dataset
        self.label_shown, self.class_names = label_shown, list(class_names)
        self.by_class = [torch.nonzero(dataset.labels == label)[:, 0] for label in range(10)]

    def __call__(self, class_labels, steps, guidance, generator, output_type):
        shown = [self.label_shown(label) for label in class_labels.tolist()]
        places = [self.by_class[label][i % len(self.by_class[label])] for i, label in enumerate(shown)]
        return ImagePipelineOutput(images=self.dataset.images[torch.stack(places)].float() / 255)


def real_dataset(name, split):
    """The real images, where they are at hand."""
    dataset = load_dataset(name, split)
    if dataset.is_sample:
        pytest.skip("needs the real images, which could not be downloaded")
    return dataset


@pytest.fixture
def ideal_judge():
    """A judge to whom real images of class k are a Gaussian of variance 1 around k in each of 64 numbers."""
    judge = Classifier(3)
    judge.means_28.copy_(torch.arange(3.0)[:, None].expand(3, 64))
    judge.covariances_28.copy_(packed(torch.eye(64)))
    return judge


def drawn_features(counts, shift=0.0, scale=1.0, seed=0):
    """Features, of which `ideal_judge` knows how far from real ones they are, and their labels."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    noise = torch.randn(len(labels), 64, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return labels[:, None] + shift + scale * noise, labels


@pytest.mark.parametrize("second", [False, True])
@pytest.mark.parametrize("name, least", [("mnist", 0.994), ("fashion_mnist", 0.91)])
def test_a_judge_recognises_as_many_real_images_as_its_settings_say(name, least, second):
    judge = load_classifier(name, second)
    assert accuracy(judge, real_dataset(name, "test")) == pytest.approx(judge.config.accuracy, abs=2e-4)
    assert judge.config.accuracy > least


def test_the_two_judges_are_two():
    for name in PLANS:
        first, second = (load_classifier(name, second) for second in (False, True))
        assert first.config.widths != second.config.widths and first.class_names == second.class_names


def test_right_pictures_score_high_and_wrong_ones_low(tiny_pipe):
    sample = load_sample("mnist")
    right = evaluate(Painter(tiny_pipe, sample, lambda label: label), 400)
    wrong = evaluate(Painter(tiny_pipe, sample, lambda label: (label + 1) % 10), 400)
    dull = evaluate(Painter(tiny_pipe, sample, lambda label: 1), 400)
    assert right["class_accuracy"] > 0.97 and wrong["class_accuracy"] < 0.03
    assert dull["class_accuracy"] == pytest.approx(0.1, abs=0.01)
    assert dull["excess_distance"] > 10 > 0.5 > right["excess_distance"]
    assert sum(map(sum, right["confusion"])) == 400 and right["confusion"][3][3] > 35
    assert wrong["confusion"][3][4] > 35 and wrong["recall"][3] < 0.05


def test_the_same_call_gives_the_same_scores(tiny_pipe):
    first, again = (evaluate(tiny_pipe, 20) for _ in range(2))
    assert first["excess_distance"] == again["excess_distance"] and first["confusion"] == again["confusion"]
    assert first["num_inference_steps"] == 2 and first["guidance_scale"] == 1.5


def test_several_seeds_give_mean_and_range(tiny_pipe):
    each = [evaluate(tiny_pipe, 20, [seed]) for seed in (0, 1, 2)]
    together = evaluate(tiny_pipe, 20, 3)
    for name in ("class_accuracy", "excess_distance"):
        values = [scores[name] for scores in each]
        assert together[name] == pytest.approx(np.mean(values))
        assert together[f"{name}_range"] == [min(values), max(values)]
    recalls = np.array([scores["recall"] for scores in each])
    assert together["recall"] == pytest.approx(recalls.mean(0))
    assert together["recall_range"][4] == pytest.approx((recalls[:, 4].min(), recalls[:, 4].max()))
    assert np.array(together["confusion"]).sum() == 60 and together["seeds"] == [0, 1, 2]


def test_several_judges_look_at_the_same_pictures(tiny_pipe):
    judges = [load_classifier("mnist"), load_classifier("mnist", second=True)]
    both = evaluate_by(judges, tiny_pipe, 20)
    assert both[0]["confusion"] == evaluate(tiny_pipe, 20)["confusion"]
    assert both[1]["judge_accuracy"] == judges[1].config.accuracy


def test_no_data_set_is_needed(tiny_pipe, monkeypatch, tmp_path):
    before = evaluate(tiny_pipe, 20)
    monkeypatch.setenv("COURSE_DATA_DIR", str(tmp_path / "empty"))
    monkeypatch.setattr(data, "fetch", lambda *args: pytest.fail("a data set was downloaded"))
    assert evaluate(tiny_pipe, 20) | {"seconds": 0} == before | {"seconds": 0}
    assert not (tmp_path / "empty").exists()


def test_frechet_distance_of_known_gaussians():
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    assert frechet_distance(zero, eye, zero, eye) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(zero, eye, zero + 2, eye) == pytest.approx(12)
    assert frechet_distance(zero, eye, zero, 4 * eye) == pytest.approx(3)  # (2 - 1)^2 for each dimension


@pytest.mark.parametrize("seed", range(5))
def test_frechet_distance_is_that_of_scipy(seed):
    generator = torch.Generator().manual_seed(seed)
    mean_a, mean_b = torch.randn(2, 16, generator=generator, dtype=torch.float64)
    a, b = (torch.randn(40, 16, generator=generator, dtype=torch.float64).T.cov() for _ in range(2))
    root = scipy.linalg.sqrtm((a @ b).numpy()).real
    wanted = (mean_a - mean_b).square().sum() + a.trace() + b.trace() - 2 * root.trace()
    assert frechet_distance(mean_a, a, mean_b, b) == pytest.approx(wanted.item(), rel=1e-8)


@pytest.mark.parametrize("per_class", [200, 700, 2500])
@pytest.mark.parametrize("shift, scale", [(0.0, 1.0), (0.05, 1.0), (0.0, 1.1)])
def test_the_excess_is_the_known_distance_at_every_count(ideal_judge, per_class, shift, scale):
    excess = [excess_distance(*drawn_features([per_class] * 3, shift, scale, seed), ideal_judge) for seed in range(12)]
    wanted = frechet_distance(*ideal_judge.reference(0, torch.full((3,), 1 / 3).double()), *scaled(shift, scale))
    uncertainty = 3 * np.std(excess, ddof=1) / len(excess) ** 0.5
    assert np.mean(excess) == pytest.approx(wanted, abs=uncertainty + 0.1 * (200 / per_class) ** 2)
    assert uncertainty < 0.25  # so that the line above says something


def scaled(shift, scale):
    """Mean and covariance of what `drawn_features` draws from, in infinite number."""
    between = torch.full((64, 64), 2 / 3, dtype=torch.float64)  # the variance of 0, 1, 2, the same in all numbers
    return torch.full((64,), 1.0 + shift, dtype=torch.float64), scale**2 * torch.eye(64, dtype=torch.float64) + between


@pytest.mark.parametrize("counts", [(400, 400, 400), (1000, 100, 100), (50, 50, 1100), (0, 600, 600)])
def test_unequal_classes_cost_nothing(ideal_judge, counts):
    excess = [excess_distance(*drawn_features(counts, seed=seed), ideal_judge) for seed in range(8)]
    assert np.mean(excess) == pytest.approx(0, abs=0.05)


def test_what_halves_of_real_images_miss_is_not_held_against_pictures(ideal_judge):
    """Two halves with an error of their own each: pictures between them are as good as real ones."""
    error = 0.1 * torch.randn(64, generator=torch.Generator().manual_seed(0))
    ideal_judge.means_28[0] += error
    ideal_judge.means_28[1] -= error
    excess = [excess_distance(*drawn_features([400] * 3, seed=seed), ideal_judge) for seed in range(8)]
    # Each half is |error|^2 from the truth, and 4 |error|^2 from the other: half of that is taken off.
    assert np.mean(excess) == pytest.approx(-error.square().sum().item(), abs=0.05)


def test_covariances_are_stored_whole():
    covariance = torch.randn(100, 64, generator=torch.Generator().manual_seed(0)).T.cov()
    assert torch.equal(unpacked(packed(covariance)), covariance.tril() + covariance.tril(-1).T)


@pytest.mark.parametrize("name", list(PLANS))
def test_real_images_are_as_good_as_real_images_whatever_their_number(name):
    """Images of the train split, which the reference does not hold, as they come: some classes are more frequent."""
    images = real_dataset(name, "train")
    judge = load_classifier(name, second=True)
    for count in (500, 2000, 5000):
        parts = [slice(start, start + count) for start in (0, 5000, 10_000, 15_000)]
        excess = [
            score_pictures(scale_to_model(images.images[part]), images.labels[part], judge)["excess_distance"]
            for part in parts
        ]
        limit = {"mnist": 0.06, "fashion_mnist": 0.2}[name] if count > 500 else 0.3
        assert abs(np.mean(excess)) < limit, (count, excess)


def test_real_weights_score_the_same_at_every_count():
    pipe, judge = ClassConditionedPipeline.from_pretrained("mnist"), load_classifier("mnist")
    labels = torch.arange(2000) % 10
    drawn = [pipe(labels, generator=torch.Generator().manual_seed(seed), output_type="pt").images for seed in (0, 1, 2)]
    by_count = {
        count: [score_pictures(part[:count] * 2 - 1, labels[:count], judge)["excess_distance"] for part in drawn]
        for count in (500, 1000, 2000)
    }
    largest = by_count[2000]
    for excess in by_count.values():
        assert min(excess) - 0.02 <= np.mean(largest) <= max(excess) + 0.02
    assert np.mean(largest) < 0.1  # of which 2,000 pictures' own error would be about a half without its correction


def test_small_pictures_are_compared_with_small_real_ones():
    judge, small = load_classifier("mnist"), resized(load_sample("mnist"), 14)
    pictures = scale_to_model(small.images)
    blurred = torch.nn.functional.interpolate(pictures, (28, 28), mode="bicubic").clamp(-1, 1)
    as_small = score_pictures(pictures, small.labels, judge)["excess_distance"]
    as_sharp = score_pictures(blurred, small.labels, judge)["excess_distance"]
    assert abs(as_small) < 0.3 < 1 < as_sharp


def test_a_network_of_some_of_the_classes_is_judged_by_their_names(tiny_pipe):
    wanted = [7, 1, 3]
    painter = Painter(tiny_pipe, load_sample("mnist"), lambda label: wanted[label], class_names=("7", "1", "3"))
    scores = evaluate(painter, 300)
    assert scores["class_accuracy"] > 0.95 and abs(scores["excess_distance"]) < 0.5
    assert len(scores["recall"]) == 3 and scores["confusion"][0][7] > 90


def test_unknown_classes_and_sizes_are_refused_before_anything_is_drawn(tiny_pipe):
    def draw(*args, **options):
        pytest.fail("it drew")

    letters = Painter(tiny_pipe, load_sample("mnist"), draw, class_names="abcdefghijklmnopqrstuvwxyz")
    with pytest.raises(ValueError, match="knows 10 classes .*'a'.*train_judge"):
        evaluate(letters, 52)
    tiny_pipe.unet.register_to_config(sample_size=20)
    with pytest.raises(ValueError, match="20x20 .* 14x14, 28x28"):
        evaluate(tiny_pipe, 20)
    with pytest.raises(FileNotFoundError, match="no judge for 'letters'.*train_judge"):
        load_classifier("letters")


def test_larger_pictures_are_judged_as_28_pixels(tiny_pipe):
    tiny_pipe.unet.register_to_config(sample_size=32)
    assert 0 <= evaluate(tiny_pipe, 20)["class_accuracy"] <= 1


def test_a_judge_of_own_pictures_is_trained_with_one_call(stripes):
    images = torch.cat([stripes.images.roll(shift, dims=3) // (1 + shift % 2) for shift in range(8)])
    own = ImageDataset(images, stripes.labels.repeat(8), [f"row {i}" for i in range(10)], "rows")
    judge = train_judge(own, plan=TrainingPlan((8, 8, 16), shift=0, degrees=0, scale=0, epochs=30))
    assert judge.class_names[3] == "row 3" and judge.config.accuracy > 0.8
    scores = score_pictures(scale_to_model(own.images), own.labels, judge)
    assert scores["class_accuracy"] > 0.85 and scores["excess_distance"] < 1
    with pytest.raises(ValueError, match="class row 0 has .* at least 4"):
        train_judge(ImageDataset(own.images[:40], own.labels[:40], own.class_names))


def test_copies_of_training_images_are_noticed():
    sample = load_sample("mnist")
    train, held_out, new = (sample.images[part] for part in (slice(800), slice(800, 1200), slice(1200, 1600)))
    copies = check_for_copies(train[:100].float() / 255, train, held_out)
    assert copies["relative_distance"] == pytest.approx(0, abs=0.01) and copies["share_very_near"] == 1
    assert copies["positions"].tolist() == list(range(100))
    others = check_for_copies(new.float() / 255, train, held_out)
    assert others["relative_distance"] == pytest.approx(1, abs=0.1) and others["share_very_near"] < 0.05
    found = (new[7].float() - train[others["positions"][7]].float()).square().mean().sqrt() / 255
    assert others["distances"][7].item() == pytest.approx(found.item(), abs=1e-4)


def test_a_model_above_its_judge_is_called_plainer_than_real(tiny_pipe):
    scores = evaluate(tiny_pipe, 20)
    assert "plainer than real" in summarize(scores | dict(class_accuracy=0.999, judge_accuracy=0.99))
    assert "plainer than real" not in summarize(scores | dict(class_accuracy=0.98, judge_accuracy=0.99))
    assert "under 200 pictures this is rough" in summarize(scores)
    assert "rough" not in summarize(scores | dict(count=200))


@pytest.mark.parametrize("count", [0, 1, -5, 2.5, True, "many", None, float("nan")])
def test_bad_count(tiny_pipe, count):
    with pytest.raises(ValueError, match="count"):
        evaluate(tiny_pipe, count)


@pytest.mark.parametrize("seeds", [0, -1, True, 1.5, "5", [], [0.5], [-1], ["a"], None])
def test_bad_seeds(tiny_pipe, seeds):
    with pytest.raises(ValueError, match="seed"):
        evaluate(tiny_pipe, 20, seeds)


def test_augmented_pictures_stay_in_range():
    images = scale_to_model(load_sample("mnist").images[:20])
    changed = augment(images, PLANS["mnist"][0], torch.Generator().manual_seed(0))
    assert changed.shape == images.shape and changed.min() >= -1 and changed.max() <= 1.001
    assert not torch.equal(changed, images)


def test_loss_by_timestep_has_one_number_per_band(tiny_model, stripes):
    losses = loss_by_timestep(tiny_model, make_scheduler(), stripes, bands=5, images_per_band=8)
    assert losses.shape == (5,) and losses.isfinite().all() and (losses > 0).all()


@pytest.mark.parametrize("bands", [3, 7, 10])
def test_loss_by_timestep_sees_every_timestep(tiny_model, stripes, monkeypatch, bands):
    seen = []
    monkeypatch.setattr("course_utils.evaluation.noise_error", lambda *args: seen.append(args[4]) or 0.0)
    loss_by_timestep(tiny_model, make_scheduler(), stripes, bands, images_per_band=8000)
    assert torch.cat(seen).unique().tolist() == list(range(1000))
    assert all(low.max() < high.min() for low, high in zip(seen, seen[1:]))


def test_velocity_and_noise_are_counted_in_the_same_unit(stripes):
    """A network that answers the true velocity has no error in noise either."""
    scheduler = make_scheduler("ddpm", "v_prediction")
    generator = torch.Generator().manual_seed(0)
    chosen, timesteps = torch.arange(10), torch.arange(0, 1000, 100)
    images = scale_to_model(stripes.images[chosen])
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))

    class Oracle:
        device = "cpu"

        def __call__(self, x, t, labels):
            return scheduler.get_velocity(images, noise, t)

    assert noise_error(Oracle(), scheduler, stripes, chosen, timesteps, generator) < 1e-9
