//! Which keys do not change a result. Where only these differ, a run continues, a model is used again, and two points
//! of a sweep are the same.

use super::Config;

/// The kind of result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Run,
    /// Cubes may be added; the results of the others stay valid.
    Survey,
    /// The trained model alone.
    Training,
}

impl Config {
    /// This configuration, with `other`'s values for all keys that do not change the result of `work`: where results
    /// go, how work is spread, and what other commands do.
    pub fn with_neutral_keys_of(&self, other: &Config, work: Work) -> Config {
        let mut own = self.clone();
        own.output.dir = other.output.dir.clone();
        own.io = other.io.clone();
        own.comm = other.comm.clone();
        own.simulate = other.simulate.clone();
        own.inject = other.inject.clone();
        own.train.device = other.train.device;
        own.train.precision = other.train.precision;
        own.train.deterministic = other.train.deterministic;
        own.train.cudnn_tries = other.train.cudnn_tries;
        own.train.cuda_graphs = other.train.cuda_graphs;
        own.train.checkpoint_epochs = other.train.checkpoint_epochs;
        own.train.keep_checkpoints = other.train.keep_checkpoints;
        match work {
            Work::Run => own.survey = other.survey.clone(),
            Work::Survey => {
                own.survey.shown = other.survey.shown;
                own.survey.verdicts = other.survey.verdicts.clone();
                own.archive.inputs = other.archive.inputs.clone();
            }
            Work::Training => {
                own.survey = other.survey.clone();
                own.output = other.output.clone();
                own.pca = other.pca.clone();
                own.score = other.score.clone();
                own.methods = other.methods.clone();
                own.preprocess.thickness = other.preprocess.thickness;
                if own.archive.train_inputs.is_some() {
                    own.archive.inputs = other.archive.inputs.clone();
                }
            }
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_depends_on_what_is_asked_for() {
        let differs = |change: &str, work| {
            let one = Config::parse("one", "archive: {train_inputs: [a.hspy]}", &[]).unwrap();
            let other = Config::parse("other", &one.to_yaml(), &[change.to_string()]).unwrap();
            !one.with_neutral_keys_of(&other, work).differences(&other).is_empty()
        };
        let all = [Work::Run, Work::Survey, Work::Training];
        for neutral in ["output=elsewhere", "io.memory_mib=4096", "train.device=cpu", "inject.dir=x"] {
            assert!(all.iter().all(|&work| !differs(neutral, work)), "{neutral}");
        }
        assert!(all.iter().all(|&work| differs("train.learning_rate=1", work)));
        for (change, expected) in [
            ("score.threshold=otsu", [true, true, false]),
            ("archive.inputs=[b.hspy]", [true, false, false]),
            ("survey.train_cubes=3", [false, true, false]),
            ("survey.verdicts=[v.yaml]", [false, false, false]),
            ("archive.verdicts=[v.yaml]", [true, true, true]),
            ("survey.tags={steel: [\"a*\"]}", [false, true, false]),
        ] {
            assert_eq!(all.map(|work| differs(change, work)), expected, "{change}");
        }
    }
}
