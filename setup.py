"""Packaging of `megadance_hf`.

`modeling/` lies at the top level because it is exactly the set of files that travels with the weights to the Hub; it is
installed as `megadance_hf.modeling`, and `datasets_scripts/` as `megadance_hf.datasets_scripts`.
"""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

# The Pythons that the tests were really run with: the oldest with all lower bounds below, the newest with the newest of
# everything (tests/versions.py), 3.11 with the pinned versions.
PYTHON_VERSIONS = ["3.10", "3.11", "3.13"]

# One reason each. The lower bounds were run together; each names a release that exists.
REQUIREMENTS = [
    "torch>=2.6.0",  # the models
    "transformers>=5.14.0",  # PreTrainedModel, GenerationMixin, feature extractors, Auto classes
    "huggingface_hub>=1.5.0",  # from_pretrained, push_to_hub
    "safetensors>=0.8.0",  # weights
    "numpy>=1.26.0",
    "scipy>=1.11.1",  # rotations of the exports
    "soundfile>=0.13.0",  # reads wav, mp3, ogg, flac, aiff
    "soxr>=0.5.0",  # resampling, also inside the music features
    "av>=14.0.0",  # writes mp4 with sound, reads every other sound file; no system ffmpeg
    "filelock>=3.12.0",  # one process at a time compiles the code steps of large models
    "numba>=0.61.0",  # compiles the renderer's pixel loops, and code steps of large models
    "opencv-python-headless>=4.10.0.84",  # text, blurs and floor of the video
    "tqdm>=4.66.3",  # progress
]
EXTRAS = {
    "train": ["accelerate>=1.4.0", "datasets>=4.0.0", "pyyaml>=6.0", "tensorboard>=2.16.2", "matplotlib>=3.8.0"],
    "smplx": ["smplx>=0.1.28"],  # SMPL meshes; the model files are the user's own (non-commercial research)
    "demo": ["starlette>=0.40", "uvicorn>=0.30"],  # the web page, and its server
    "study": [
        "choix>=0.3.5",  # Bradley-Terry
        "matplotlib>=3.8.0",  # plots of the report
        "pyloudnorm>=0.1.1",  # loudness of the clips (EBU R128)
        "pyyaml>=6.0",  # study.yaml
        "starlette>=0.40",  # the raters' page
        "uvicorn>=0.30",  # serves it
    ],
    "cuda": ["mamba-ssm>=2.2", "causal-conv1d>=1.4.0"],  # source-only; needs nvcc and a GPU
}
EXTRAS["dev"] = [
    *EXTRAS["train"],
    *EXTRAS["smplx"],
    *EXTRAS["demo"],
    *EXTRAS["study"],
    "axe-playwright-python>=0.1.4",  # whether everybody can use the web page
    "brotli>=1.1",  # unpacks the tests' browser where Playwright's cannot be fetched
    "httpx>=0.27",  # asks the pages' servers
    "hypothesis>=6.100",
    "ipykernel>=6.29",  # runs the notebook
    "librosa>=0.11",  # what the music features are compared with
    "mkdocs-material>=9.5",  # the documentation site
    "mkdocstrings[python]>=0.26",  # its API reference
    "mypy>=1.10",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "peft>=0.18",  # LoRA, of which the documentation has an example
    "playwright>=1.50",  # drives the web page
    "pytest>=8",
    "pytest-xdist>=3.8",
    "ruff>=0.8",
    "scipy>=1.13",
    "statsmodels>=0.14",  # what the study's ordinal model is compared with
]

setup(
    name="megadance-hf",
    version="0.1.0",
    description="Music in, 3D dance out: MEGADance (NeurIPS 2025) as a Hugging Face package",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=f">={PYTHON_VERSIONS[0]}",
    classifiers=[f"Programming Language :: Python :: {version}" for version in ("3", *PYTHON_VERSIONS)],
    packages=[*find_packages(include=["megadance_hf*"]), "megadance_hf.modeling", "megadance_hf.datasets_scripts"],
    package_dir={
        "megadance_hf": "megadance_hf",
        "megadance_hf.modeling": "modeling",
        "megadance_hf.datasets_scripts": "datasets_scripts",
    },
    package_data={
        "megadance_hf": [
            "pretrained/*/*",
            "pretrained/*/tokenizer/*",
            "demo/web/*",
            "export/web/*",
            "motion/body/*",
            "study/page/*",
            "study/page/texts/*",
        ]
    },
    install_requires=REQUIREMENTS,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["megadance=megadance_hf.cli.command:main"],
        # what `megadance prepare` knows: megadance_hf/data/sources.py
        "megadance.sources": [
            f"{name}=megadance_hf.datasets_scripts:{name.upper()}"
            for name in ("finedance", "aistpp", "ballroom", "ballroom2", "mocap", "synthetic")
        ],
    },
)
