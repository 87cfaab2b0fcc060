import pytest
import torch
from diffusers import ImagePipelineOutput

from course_utils.classifier import PLANS, accuracy, augment, load_classifier
from course_utils.data import load_dataset, load_sample, scale_to_model
from course_utils.evaluation import evaluate, frechet_distance, frechet_floor, loss_by_timestep, noise_error
from course_utils.sampling import make_scheduler


class Painter:
    """Stands in for a pipeline: draws pictures of its own choice from a data set, whatever it is asked for."""

    def __init__(self, pipe, dataset, label_shown):
        self.config, self.unet, self.device, self.dataset, self.label_shown = (
            pipe.config,
            pipe.unet,
            "cpu",
            dataset,
            label_shown,
        )
        self.by_class = [torch.nonzero(dataset.labels == label)[:, 0] for label in range(10)]

    def __call__(self, class_labels, steps, guidance, generator, output_type):
        shown = [self.label_shown(label) for label in class_labels.tolist()]
        places = [self.by_class[label][i % len(self.by_class[label])] for i, label in enumerate(shown)]
        return ImagePipelineOutput(images=self.dataset.images[torch.stack(places)].float() / 255)


@pytest.mark.parametrize("name, least", [("mnist", 0.994), ("fashion_mnist", 0.93)])
def test_classifier_recognises_the_test_split(name, least):
    test = load_dataset(name, "test")
    if test.is_sample:  # the model's own drawings: recognisable, though not all of them
        assert accuracy(load_classifier(name), test) > (0.97 if name == "mnist" else 0.8)
    else:
        assert accuracy(load_classifier(name), test) >= least


def test_right_pictures_score_high_and_wrong_ones_low(tiny_pipe):
    sample = load_sample("mnist")
    right = evaluate(Painter(tiny_pipe, sample, lambda label: label), 400)
    wrong = evaluate(Painter(tiny_pipe, sample, lambda label: (label + 1) % 10), 400)
    dull = evaluate(Painter(tiny_pipe, sample, lambda label: 1), 400)
    assert right["class_accuracy"] > 0.97 and wrong["class_accuracy"] < 0.03
    assert dull["class_accuracy"] == pytest.approx(0.1, abs=0.01)
    assert dull["frechet_distance"] > 10 * right["frechet_distance"] > 0
    assert sum(map(sum, right["confusion"])) == 400 and right["confusion"][3][3] > 35
    assert wrong["confusion"][3][4] > 35 and wrong["recall"][3] < 0.05
    assert right["count"] == 400 and right["frechet_floor"] > 0


def test_scores_of_a_real_pipeline_repeat(tiny_pipe):
    first, again = (evaluate(tiny_pipe, 20) for _ in range(2))
    assert first["frechet_distance"] == again["frechet_distance"] and first["confusion"] == again["confusion"]
    assert first["num_inference_steps"] == 2 and first["guidance_scale"] == 1.5


def test_floor_falls_with_the_count():
    classifier = load_classifier("mnist")
    few, many = (frechet_floor(classifier, "mnist", torch.arange(count) % 10)[0] for count in (100, 1000))
    assert few > 2 * many > 0


def test_frechet_distance_of_gaussians():
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    assert frechet_distance(zero, eye, zero, eye) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(zero, eye, zero + 2, eye) == pytest.approx(12)
    assert frechet_distance(zero, eye, zero, 4 * eye) == pytest.approx(3)  # (2 - 1)^2 for each dimension
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(50, 3, generator=generator, dtype=torch.float64).T.cov() for _ in range(2))
    assert frechet_distance(zero, a, zero, b) == pytest.approx(frechet_distance(zero, b, zero, a))


@pytest.mark.parametrize("count", [0, 1, -5, 2.5, True, "many"])
def test_bad_count(tiny_pipe, count):
    with pytest.raises(ValueError, match="count"):
        evaluate(tiny_pipe, count)


def test_augmented_pictures_stay_in_range():
    images = scale_to_model(load_sample("mnist").images[:20])
    changed = augment(images, PLANS["mnist"], torch.Generator().manual_seed(0))
    assert changed.shape == images.shape and changed.min() >= -1 and changed.max() <= 1.001
    assert not torch.equal(changed, images)


def test_loss_by_timestep_has_one_number_a_band(tiny_model, stripes):
    losses = loss_by_timestep(tiny_model, make_scheduler(), stripes, bands=5, images_per_band=8)
    assert losses.shape == (5,) and losses.isfinite().all() and (losses > 0).all()


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
