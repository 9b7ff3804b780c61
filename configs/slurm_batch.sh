#!/bin/bash
# sbatch configs/slurm_batch.sh NIGHT OUT
#SBATCH --job-name=masterframe
#SBATCH --ntasks=6
#SBATCH --cpus-per-task=1
#SBATCH --mem-per-cpu=4G
#SBATCH --time=02:00:00
# Two of the tasks are the scheduler and the run itself; the others work. A second sbatch with the
# same folders goes on with what is not done.
set -euo pipefail
srun --kill-on-bad-exit=0 masterframe run "$1" -o "$2" --scheduler "${3:-configs/slurm_runner.yaml}"
