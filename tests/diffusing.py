"""What the tests of the diffusion pipeline share: its commands, and what its decoder is given."""

from consumer.gpu.protocol import Generate, Load


def load(model, device="cpu", data_dir="/nowhere"):
    return Load(
        "consumer.gpu.diffusion:DiffusionPipeline", model, None, device, "auto", data_dir
    )


def command(prompt="A sunset over mountains", size=(256, 256), seed=42, **more):
    return Generate(
        **{
            "id": "job-1",
            "prompt": prompt,
            "width": size[0],
            "height": size[1],
            "seed": seed,
            "forwards": 8,
            "guidance": 0.0,
            **more,
        }
    )


def ignore(*_):
    pass


def tiles_decoded(monkeypatch, pipeline):
    """The sizes in pixels of what the decoder is given from now on, a piece each."""
    sizes, decoder = [], pipeline._pipe.vae.decoder
    forward = decoder.forward

    def counted(latents, *more, **options):
        sizes.append(tuple(8 * side for side in latents.shape[:-3:-1]))
        return forward(latents, *more, **options)

    monkeypatch.setattr(decoder, "forward", counted)
    return sizes
