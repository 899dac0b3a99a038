"""A HyperSpy session that works with the result of a run.

Usage: hyperspy_session.py CUBE RESULT   (needs hyperspy, exspy, matplotlib)
"""

import sys

import matplotlib

matplotlib.use("Agg")

# README.md shows the lines from here to the checks, with other file names.
cube_path, result_path = sys.argv[1:]

import hyperspy.api as hs

cube = hs.load(cube_path)
found = {signal.metadata.General.title: signal for signal in hs.load(result_path)}
cube.plot(navigator=found["10_cvae_combined"])  # the score map beside the spectra
found["31_region_spectra"].plot()  # the mean spectrum of each region
cube.learning_results = found["50_pca"].learning_results  # our PCA, not computed again
cube.plot_explained_variance_ratio()
denoised = cube.get_decomposition_model(3)
cube.blind_source_separation(3, algorithm="orthomax")
components = cube.get_bss_factors()

# Checks.
assert type(cube).__name__ == "EELSSpectrum", type(cube)
assert denoised.data.shape == cube.data.shape
assert components.data.shape == (3, cube.data.shape[-1]), components.data.shape
print("the session ran")
