import pytest

from course_utils.pipeline import ClassConditionedPipeline
from course_utils.sampling import make_scheduler
from tiny import make_tiny_model
from tools.bundling import tuned_pipeline


def test_fine_tuned_weights_may_be_guided_otherwise_but_keep_their_sampler():
    sampler = make_scheduler("ddim", "v_prediction")
    tuned = ClassConditionedPipeline(make_tiny_model(), sampler, "fashion_mnist", num_inference_steps=4)
    guided = tuned_pipeline(tuned, guidance_scale=1.3, guidance_start=0.25)
    config = guided.config
    assert (config.dataset, config.num_inference_steps, config.guidance_scale, config.guidance_start) == (
        "fashion_mnist", 4, 1.3, 0.25,
    )  # fmt: skip
    assert guided.unet is tuned.unet and guided.scheduler is sampler
    with pytest.raises(ValueError, match="'unipc': fine-tuned weights draw with the one"):
        tuned_pipeline(tuned, sampler="unipc")
