//! All integration tests, in one program: each program of its own would link libtorch and HDF5 once more.
//!
//! `tests/README.md` says what each part holds and how to run one.

// What the tests share: jobs under mpirun, cubes, results, Slurm.
mod common;

// Reading: file formats against RosettaSciIO, HDF5 as other programs write it, `inspect`, `import`.
mod formats;
mod hdf5_files;
mod import;
mod inspect;

// Writing: the parallel writer, and what HyperSpy, a browser and other tools make of the results.
mod hyperspy;
mod output_ranks;
mod pages;
mod tools;

// The science: noise of measured cubes, scores of made ones, injected anomalies, the experiments in small.
mod analysis;
mod context;
mod experiments;
mod given;
mod inject;
mod measured;

// Runs: the demonstration in full, energies, output folders, sweeps and surveys, benchmarks.
mod bench;
mod campaigns;
mod changes;
mod demo;
mod energy;
mod folders;
mod survey;
mod verdicts;

// What goes wrong: bad input, closed pipes, dead ranks and nodes, kills at random, Slurm's limits, too little memory.
mod chaos;
mod everyday;
mod failures;
mod memory;
mod nodes;
mod slurm;

// The source tree itself: which module imports which.
mod layers;
