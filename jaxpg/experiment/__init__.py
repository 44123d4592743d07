"""Everything around training, on the host; each room is a folder.

runs.py      train, resume, load: `jaxpg.run`, `jaxpg.resume`, `jaxpg.load`
robustness.py  returns over parameters of the environment: `jaxpg.robustness`
run          the folder of one run: records, checkpoints, what was measured
callbacks    between the chunks of a run: metrics, evaluation, guards, progress, TensorBoard
sweeps       many configs and seeds, searches, comparisons: `jaxpg.sweep`, `.search`, `.compare`
analysis     numbers from results: statistics, scores, thresholds, risk
diagnostics  gradient estimators and probes of a learner: `jaxpg.diagnostics`
figures      pictures of results: `jaxpg.pictures`
report       one HTML page of results: `jaxpg.report`
render       videos of episodes: `jaxpg.render`
files        files that are what was written, or an error: digests, locks
export       policies as files: `jaxpg.Policy`, ONNX
jobs.py      experiments as jobs, on a cluster or here: `jaxpg.fan_out`
extras.py, text.py  optional packages, numbers as text
"""
