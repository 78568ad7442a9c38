"""Registers the models with transformers' Auto classes; imported with the first public name that has to do with a model.

`import megadance_hf` alone does not register them: importing the Auto classes takes seconds, which neither `megadance --help`
nor somebody who wants features and no model should wait for. `AutoModel.from_pretrained(DIR)` therefore needs `import
megadance_hf.auto`, or any name from `megadance_hf` other than `Motion`, `MegaDanceFeatureExtractor` and `load_audio`.

`AutoModel` gives the generator without its head; the model that generates is an `AutoModelForCausalLM`.
"""

from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, AutoModelForCausalLM, AutoProcessor

from .modeling.configuration_megadance import MegaDanceClassifierConfig, MegaDanceConfig, MegaDanceTokenizerConfig
from .modeling.feature_extraction_megadance import MegaDanceFeatureExtractor
from .modeling.modeling_megadance import MegaDanceForMotionGeneration, MegaDanceModel
from .modeling.modeling_megadance_classifier import MegaDanceForGenreClassification
from .modeling.modeling_megadance_tokenizer import MegaDanceTokenizer
from .processor import MegaDanceProcessor

for _config, _model in (
    (MegaDanceConfig, MegaDanceModel),
    (MegaDanceTokenizerConfig, MegaDanceTokenizer),
    (MegaDanceClassifierConfig, MegaDanceForGenreClassification),
):
    AutoConfig.register(_config.model_type, _config, exist_ok=True)
    AutoModel.register(_config, _model, exist_ok=True)
    AutoProcessor.register(_config, MegaDanceProcessor, exist_ok=True)  # it raises itself where there is none
AutoModelForCausalLM.register(MegaDanceConfig, MegaDanceForMotionGeneration, exist_ok=True)
AutoFeatureExtractor.register(MegaDanceConfig, MegaDanceFeatureExtractor, exist_ok=True)
